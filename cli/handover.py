"""`plimsoll handover`: one of two predictors dies. How soon are its forecasts back, and from where?

Two workers share the partitions of `metrics.samples`, into which this process sends; one of them is
killed (-9), and when it is back the other, and so on. At the end what they left in snapshots is
held, byte for byte, against a run over the same records that nobody disturbed. The last line that
it prints is JSON, for whoever keeps the figures.
"""

import asyncio
import os
import signal
import statistics
import time
from pathlib import Path

from rich.console import Console

from cli.connection import apply_topics, connect, given_servers, kafka_section
from cli.handover_load import Load
from cli.local.kafka import broker_at
from cli.local.processes import LocalError, ProjectLock, Say
from cli.session import clear
from cli.speaker import Speaker
from cli.stack import BASE, Service, Stack
from cli.summary import print_figures
from cli.undisturbed import newest_snapshots, undisturbed
from libs.common import plimsoll_pb2 as pb
from libs.common.ports import Bus, Reader, Start
from libs.common.topics import LOAD_FORECASTS, METRICS_SAMPLES

WORKERS = (
    Service("predictor-a", "services.predictor", "a"),
    Service("predictor-b", "services.predictor", "b"),
)
PARTITIONS = set(range(METRICS_SAMPLES.partitions))
CALM_S = 10.0  # both at work, for the latency of a forecast
SETTLE_S = 2.0  # so long both are left at work before a kill
BACK_WITHIN_S = 30.0
SHARED_WITHIN_S = 90.0
KEPT_WITHIN_S = 20.0


class Heard:
    """What the workers have said: of each partition who spoke last, and of what time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.by: dict[int, str] = {}
        self.at_ms: dict[int, int] = {}
        self.told_ms: list[tuple[int, int, int]] = []  # partition, at_ms, when it was told

    async def listen(self) -> None:
        """Keep up to date, until cancelled."""
        while True:
            for record in await self._reader.poll(0.5):
                said = pb.LoadForecasts.FromString(record.value or b"")
                self.by[said.partition] = record.headers["ce_source"].decode().rpartition("/")[2]
                self.at_ms[said.partition] = said.at_ms
                self.told_ms.append((said.partition, said.at_ms, record.timestamp_ms))


def handover(kills: int, out: Path) -> None:
    """Run the measurement. Call it from the main thread. Raises LocalError, SettingError."""
    given = given_servers()
    console = Console()
    say = Speaker(console)
    with ProjectLock(BASE / "demo.lock"):
        clear(out)
        with broker_at(given, BASE, say=say) as servers:
            say(f"Kafka answers at {servers}")
            found = asyncio.run(measure(servers, kills, out, say))
    print_figures(console, f"{kills} predictors killed", found)


async def measure(servers: str, kills: int, out: Path, say: Say) -> dict[str, object]:
    """Kill workers, `kills` times in all; return what came of it, as JSON types."""
    section = kafka_section(servers)
    await apply_topics(section)
    async with Stack(servers, out, say) as stack, connect(section, "handover") as bus:
        await _refuse_old_records(bus)
        load = Load(bus)
        await load.announce()
        await stack.start(WORKERS)
        async with bus.tail([LOAD_FORECASTS], Start.LATEST) as reader:
            heard = Heard(reader)
            tasks = [asyncio.create_task(work) for work in (load.run(), heard.listen())]
            try:
                await _until_shared(stack, heard)
                say("both have a part")
                await asyncio.sleep(SETTLE_S)
                first = len(heard.told_ms)
                await asyncio.sleep(CALM_S)
                latencies_ms = load.latencies_ms(heard.told_ms[first:])
                gaps_s = []
                for number in range(kills):
                    gaps_s.append(await _kill(stack, heard, WORKERS[number % len(WORKERS)]))
                    say(f"kill {number + 1}: its forecasts are back after {gaps_s[-1]:.2f} s")
                    await _until_shared(stack, heard)
                    await asyncio.sleep(SETTLE_S)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        say(f"{sum(load.sent.values())} ticks were sent; now the same without a kill")
        left = await _left(bus, load.sent)
        same = left == await undisturbed(bus)
    return {
        "kills": kills,
        "median_s": round(statistics.median(gaps_s), 3),
        "max_s": round(max(gaps_s), 3),
        "state_equal": same,
        "ticks": sum(load.sent.values()),
        "state_bytes_max": max(map(len, left.values())),
        "latency_p50_ms": round(statistics.median(latencies_ms), 1),
        "latency_p99_ms": round(statistics.quantiles(latencies_ms, n=100)[98], 1),
    }


async def _kill(stack: Stack, heard: Heard, victim: Service) -> float:
    """Kill a worker; return after how many seconds its part had forecasts of newer samples."""
    pid = stack.pid(victim)
    lost = {partition for partition, by in heard.by.items() if by == victim.instance}
    assert pid is not None, "it was heard a moment ago"
    killed_ms = time.time_ns() // 1_000_000
    os.kill(pid, signal.SIGKILL)
    while lost:
        await asyncio.sleep(0.01)
        lost = {p for p in lost if heard.at_ms[p] <= killed_ms}
        if time.time_ns() // 1_000_000 - killed_ms > 1000 * BACK_WITHIN_S:
            raise LocalError(f"nobody foresees {sorted(lost)} after {BACK_WITHIN_S:.0f} s")
    return (time.time_ns() // 1_000_000 - killed_ms) / 1000


async def _until_shared(stack: Stack, heard: Heard) -> None:
    """Wait until each of the workers tells of a part, and all partitions are told of."""
    deadline = time.monotonic() + SHARED_WITHIN_S
    names = {worker.instance for worker in WORKERS}
    while set(heard.by) != PARTITIONS or set(heard.by.values()) != names:
        await asyncio.sleep(0.05)
        if time.monotonic() > deadline:
            raise LocalError(f"after {SHARED_WITHIN_S:.0f} s only {heard.by} are at work")


async def _left(bus: Bus, sent: dict[int, int]) -> dict[int, bytes]:
    """Return, by partition, the state in its newest snapshot once all that was sent is in it."""
    deadline = time.monotonic() + KEPT_WITHIN_S
    while True:
        found = await newest_snapshots(bus)
        if all(p in found and found[p].next_offset == count for p, count in sent.items()):
            return {p: one.state.SerializeToString(deterministic=True) for p, one in found.items()}
        if time.monotonic() > deadline:
            raise LocalError(f"after {KEPT_WITHIN_S:.0f} s not all is in snapshots")
        await asyncio.sleep(0.5)


async def _refuse_old_records(bus: Bus) -> None:
    async with bus.tail([METRICS_SAMPLES], Start.EARLIEST) as reader:
        if not reader.caught_up():
            raise LocalError(
                "this begins with an empty metrics.samples: choose a PLIMSOLL_KAFKA__TOPIC_PREFIX"
                " that nobody has used"
            )
