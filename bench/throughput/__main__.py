"""`python -m bench.throughput`: samples per second from Kafka into updated forecasts, on one core.

The predictor as it ships folds what waits in `metrics.samples` of a real Kafka; the usual Faust
agent, of one JSON sample a message, does what it does, in the same round. All of a round follows
closely; figures are medians of the rounds' own. Nothing is compared before both are right: the
agent's EWMAs are those of the closed form, the predictor's forecasts, byte for byte, those of its
core in a bare loop.

Rates are per second of processor time, over all threads of a process that is pinned to one core:
that is what a core of its own would do, and other work on the machine does not enter.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from base64 import b64decode
from math import isclose
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.throughput import latency, shipped
from bench.throughput.broker import fill, work
from bench.throughput.load import SOURCES, Load, announcements, ewmas, load_of, samples, ticks
from cli.local.kafka import LocalKafka
from cli.local.processes import LocalError
from libs.common import plimsoll_pb2 as pb
from libs.common.settings import KafkaSection

BASE = Path(__file__).parents[2] / ".plimsoll"
ROUNDS = 3
AGENT_MIN_PER_S = 4000.0  # of a slower agent it is no feat to be faster
PAST_MS = 600_000  # the first tick is so old: none lies ahead of the clock
LIVE_S = 15.0
LIVE_TICKS_PER_S = 100
LIVE_SAMPLES = 1000


class Amount(NamedTuple):
    """How many messages are filled in, and how many of them go before the clock starts."""

    messages: int
    warm: int


OF_AGENT = Amount(18_000, 3000)
OF_TICKS = {1000: Amount(12_000, 2000), 20_000: Amount(2400, 400)}  # by samples


class Round(NamedTuple):
    """What one round measured at one size; microseconds of processor time a message."""

    agent_us: float
    client_us: float
    faust_us: float  # the client's part among it
    decode_us: float
    core_us: float
    whole_us: float
    wall_us: float
    sent: float  # forecasts of a partition, a message

    def ratio(self, count: int) -> float:
        """Samples a second, against the usual agent's."""
        return count * self.agent_us / self.whole_us

    def share_of_limit(self) -> float:
        """What the client and the kernel alone would take, of what the whole takes."""
        return (self.client_us + self.core_us) / self.whole_us

    def shares(self) -> dict[str, float]:
        """Each part of the whole; what is left makes and sends forecasts, counts and shows."""
        parts = {
            "client": self.client_us,
            "Faust": self.faust_us - self.client_us,
            "decoding": self.decode_us,
            "core": self.core_us,
        }
        parts["forecasts sent, the rest"] = self.whole_us - sum(parts.values())
        return {name: part / self.whole_us for name, part in parts.items()}


def main() -> None:
    """Measure and say it: tables for people, one line of JSON for programs."""
    # SIGTERM as Ctrl-C, so that `kill` leaves no process either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="plimsoll-throughput-") as folder,
            LocalKafka(
                Path(folder), port=0, libs=BASE / "kafka" / "libs", say=console.print
            ) as kafka,
        ):
            _run(kafka.bootstrap_servers, Path(folder), console)
    except LocalError as error:
        print(f"plimsoll throughput: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(servers: str, folder: Path, console: Console) -> None:
    console.print(f"{ROUNDS} rounds, some 4 minutes; load average {os.getloadavg()[0]:.1f}")
    rounds: dict[int, list[Round]] = {count: [] for count in OF_TICKS}
    for number in range(ROUNDS):
        agent_us = usual_agent(_section(servers, f"agent{number}"), folder)
        console.print(f"round {number + 1}: the usual agent takes {1e6 / agent_us:,.0f} messages/s")
        for count, amount in OF_TICKS.items():
            section = _section(servers, f"ticks{number}-{count}")
            one = of_ticks(section, count, amount, agent_us, folder)
            rounds[count].append(one)
            console.print(
                f"round {number + 1}: {count:,} samples: {one.ratio(count):,.0f} times it"
            )
    console.print(f"{LIVE_TICKS_PER_S} ticks/s of {LIVE_SAMPLES:,} samples, {LIVE_S:.0f} s")
    live = load_of(LIVE_SAMPLES, _now_ms(), 1000 * SOURCES // LIVE_TICKS_PER_S)
    waited = asyncio.run(latency.measure(_section(servers, "live"), live, LIVE_S, folder))
    console.print(_table(rounds))
    console.print(
        f"a sample handed to Kafka until a forecast of it is read, {waited.ticks:,} ticks at "
        f"{waited.ticks_per_s:.0f}/s: p50 {waited.p50_ms:.1f} ms, p99 {waited.p99_ms:.1f} ms"
    )
    print(json.dumps(_figures(rounds)))


def usual_agent(section: KafkaSection, folder: Path) -> float:
    """Return the microseconds that the usual agent takes for a message.

    Raises:
        LocalError: the run is void: the agent is wrong, or slower than it may be.
    """
    load = load_of(1000, _now_ms() - PAST_MS)
    messages = itertools.islice(samples(load), OF_AGENT.messages)
    asyncio.run(fill(section, [], messages))
    told = work("per_sample", _task(section, load, 1000, OF_AGENT), folder)
    wanted = ewmas(load, OF_AGENT.messages)
    wrong = [
        name
        for name, value in wanted.items()
        if not isclose(told["ewma"].get(name, float("nan")), value, rel_tol=1e-9, abs_tol=1e-9)
    ]
    if wrong or told["ewma"].keys() != wanted.keys():
        raise LocalError(f"void: the usual agent's EWMA of {wrong[:1]} is not that of its samples")
    if told["cpu_us"] > 1e6 / AGENT_MIN_PER_S:
        raise LocalError(
            f"void: the usual agent takes {1e6 / told['cpu_us']:,.0f} messages a second of "
            f"processor time, below {AGENT_MIN_PER_S:,.0f}; is this machine very busy?"
        )
    return float(told["cpu_us"])


def of_ticks(
    section: KafkaSection, count: int, amount: Amount, agent_us: float, folder: Path
) -> Round:
    """Measure the predictor, and its parts by themselves, with ticks of `count` samples.

    Raises:
        LocalError: its forecasts are not those of the core in a bare loop.
    """
    load = load_of(count, _now_ms() - PAST_MS)
    messages = itertools.islice(ticks(load), amount.messages)
    asyncio.run(fill(section, announcements(load), messages))
    task = _task(section, load, count, amount)
    bare = work("bare", task, folder)
    alone = work("faust", task, folder)
    # The group of the stream alone has committed: the predictor would find nothing left.
    whole_section = section.model_copy(update={"topic_prefix": f"whole-{section.topic_prefix}"})
    messages = itertools.islice(ticks(load), amount.messages)
    asyncio.run(fill(whole_section, announcements(load), messages))
    whole = asyncio.run(shipped.fold(whole_section, load, amount.messages, folder))
    for partition, data in enumerate(bare["forecasts"]):
        if whole.forecasts[partition] != pb.LoadForecasts.FromString(b64decode(data)):
            raise LocalError(f"partition {partition}: not the forecasts of the bare core")
    return Round(
        agent_us,
        bare["cpu_us"],
        alone["cpu_us"],
        bare["decode_us"],
        bare["core_us"],
        whole.cpu_us,
        whole.wall_us,
        whole.sent,
    )


def _figures(rounds: dict[int, list[Round]]) -> dict[str, Any]:
    largest = max(rounds)
    return {
        "samples_per_s": round(largest * 1e6 / median(one.whole_us for one in rounds[largest])),
        "ratio_to_per_sample_agent": {
            str(count): round(median(one.ratio(count) for one in of_count))
            for count, of_count in rounds.items()
        },
        "share_of_limit": round(median(one.share_of_limit() for one in rounds[largest]), 3),
    }


def _table(rounds: dict[int, list[Round]]) -> Table:
    table = Table("samples a message", *(f"{count:,}" for count in rounds), box=None)

    def row(name: str, form: str, *values: float) -> None:
        table.add_row(name, *(format(value, form) for value in values))

    def mid(count: int, field: str) -> float:
        return median(float(getattr(one, field)) for one in rounds[count])

    row("samples/s of one core", ",.0f", *(1e6 * n / mid(n, "whole_us") for n in rounds))
    row(
        "times the usual agent",
        ",.0f",
        *(median(one.ratio(n) for one in rounds[n]) for n in rounds),
    )
    row(
        "share of the limit",
        ".2f",
        *(median(o.share_of_limit() for o in rounds[n]) for n in rounds),
    )
    row("a message, us of the core", ",.0f", *(mid(n, "whole_us") for n in rounds))
    row("a message, us by the clock", ",.0f", *(mid(n, "wall_us") for n in rounds))
    for part in next(iter(rounds.values()))[0].shares():
        row(f"  {part}", ".0%", *(median(o.shares()[part] for o in rounds[n]) for n in rounds))
    row("forecasts sent, a message", ".3f", *(mid(n, "sent") for n in rounds))
    return table


def _task(section: KafkaSection, load: Load, count: int, amount: Amount) -> dict[str, Any]:
    """Return what `worker.Task` holds."""
    return {
        "servers": section.bootstrap_servers,
        "prefix": section.topic_prefix,
        "messages": amount.messages,
        "warm": amount.warm,
        "samples": count,
        "start_ms": load.start_ms,
    }


def _section(servers: str, name: str) -> KafkaSection:
    return KafkaSection(bootstrap_servers=servers, topic_prefix=f"{name}.")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
