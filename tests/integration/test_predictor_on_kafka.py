"""The predictor's Faust part, and its whole process, on a real Kafka."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from cli.handover import measure
from cli.session import clear
from libs.common import plimsoll_pb2 as pb
from libs.common import series, ticks, wire
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Outgoing, Reader, Record, Start
from libs.common.settings import KafkaSection
from libs.common.topics import (
    DEAD_LETTERS,
    LOAD_FORECASTS,
    METRICS_LAYOUTS,
    METRICS_SAMPLES,
    PREDICTOR_SNAPSHOTS,
)
from libs.common.wire import Origin
from services.predictor.stream import Keep, Stream
from tests.conftest import Connect

pytestmark = pytest.mark.bus

ROOT = Path(__file__).parents[2]
ORIGIN = Origin("test", "a")


SESSION_MS = 2000


async def nothing() -> None:
    """Leave nothing behind before a rebalance."""


class Taken:
    """What a worker was handed; a test awaits what it needs of it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._more = asyncio.Event()

    async def __call__(self, record: Record) -> None:
        if record.value == b"broken":
            raise AssertionError("a broken invariant")
        self.records.append(record)
        self._more.set()

    async def until(self, values: set[bytes]) -> None:
        async with asyncio.timeout(60):
            while not values <= {record.value for record in self.records}:
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def worker(
    section: KafkaSection, taken: Taken, keep: Keep = lambda partitions: None
) -> AsyncIterator[Stream]:
    stream = Stream(section, SESSION_MS, taken, keep, nothing)
    running = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def send(bus: KafkaBus, values: set[bytes]) -> None:
    await bus.publish(
        [Outgoing(METRICS_SAMPLES.name, value.decode(), value, {"a": b"b"}) for value in values]
    )


async def test_a_worker_is_handed_every_record_and_its_successor_goes_on(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    first, second = Taken(), Taken()
    before, after = ({f"{kind}{k}".encode() for k in range(40)} for kind in "ab")
    async with connect("a") as bus:
        await send(bus, before)
        async with worker(kafka_section, first) as stream:
            await first.until(before)
            while stream.probe() is not None:
                await asyncio.sleep(0.1)
        for partition in range(METRICS_SAMPLES.partitions):
            held = bus.hold(PREDICTOR_SNAPSHOTS, partition, METRICS_SAMPLES, "predictor")
            offsets = [r.offset for r in first.records if r.partition == partition]
            async with held as tenure:
                await tenure.publish([], 1 + max(offsets))
        await send(bus, after)
        async with worker(kafka_section, second):
            await second.until(after)
    assert {record.partition for record in first.records} == set(range(METRICS_SAMPLES.partitions))
    assert {record.topic for record in first.records} == {METRICS_SAMPLES.name}
    assert first.records[0].headers == {"a": b"b"}
    for partition in range(METRICS_SAMPLES.partitions):
        offsets = [r.offset for r in first.records if r.partition == partition]
        assert offsets == sorted(offsets)
    assert {r.value for r in second.records} == after, "what was committed does not come again"


async def test_what_the_handler_raises_ends_the_worker(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    async with connect("a") as bus:
        await send(bus, {b"broken"})
        async with asyncio.timeout(60):
            with pytest.raises(ExceptionGroup, match="unhandled") as raised:
                await Stream(
                    kafka_section, SESSION_MS, Taken(), lambda partitions: None, nothing
                ).run()
    assert raised.group_contains(AssertionError, match="a broken invariant")


async def test_a_second_worker_takes_over_a_part_and_gives_it_back(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    mine: dict[str, set[int]] = {}
    changed = asyncio.Event()

    def keep(name: str) -> Keep:
        def note(partitions: set[int]) -> None:
            mine[name] = partitions
            changed.set()

        return note

    async def until(*shares: int) -> None:
        async with asyncio.timeout(60):
            while sorted(map(len, mine.values())) != sorted(shares):
                changed.clear()
                await changed.wait()

    async with connect("a"), worker(kafka_section, Taken(), keep("first")):
        await until(4)
        async with worker(kafka_section, Taken(), keep("second")):
            await until(2, 2)
            assert mine["first"] | mine["second"] == set(range(METRICS_SAMPLES.partitions))
        del mine["second"]
        await until(4)


def start_predictor(section: KafkaSection) -> subprocess.Popen[bytes]:
    settings = {
        "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS": section.bootstrap_servers,
        "PLIMSOLL_KAFKA__TOPIC_PREFIX": section.topic_prefix,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services.predictor"], cwd=ROOT, env={**os.environ, **settings}
    )


async def committed(section: KafkaSection) -> int:
    """The offset from which the next predictor goes on, over all partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=section.bootstrap_servers)
    await admin.start()
    try:
        group = f"{section.topic_prefix}plimsoll-predictor"
        offsets = await admin.list_consumer_group_offsets(group)
        return sum(max(0, place.offset) for place in offsets.values())
    finally:
        await admin.close()


class Said:
    """What predictors have published."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.newest_ms = 0
        self.dead: list[Record] = []

    async def until_foreseen(self, bus: KafkaBus, router: "Ticks") -> None:
        """Go on sending ticks until one sent from now on is foreseen."""
        begun_ms = router.at_ms
        async with asyncio.timeout(90):
            while self.newest_ms <= begun_ms:
                await bus.publish([router.next()])
                for record in await self._reader.poll(0.1):
                    if record.topic == DEAD_LETTERS.name:
                        self.dead.append(record)
                    else:
                        message = wire.decode_protobuf(record, pb.LoadForecasts)
                        self.newest_ms = max(self.newest_ms, message.at_ms)


class Ticks:
    """A router of one model, with five arrivals a tick."""

    def __init__(self) -> None:
        arrivals = pb.Series(metric=series.ARRIVALS, model="chat")
        self.layout = wire.layout_of("router/0", [arrivals])
        self.at_ms = time.time_ns() // 1_000_000 - 60_000
        self._arrivals = 0.0

    def next(self) -> Outgoing:
        self.at_ms += 100
        self._arrivals += 5
        arrivals = np.array([self._arrivals])
        tick = ticks.floats(self.layout, arrivals, self.at_ms, self.at_ms + 300)
        event_id = str(self.at_ms)
        return wire.encode(METRICS_SAMPLES, "chat", tick, ORIGIN, event_id, self.at_ms)


async def test_after_a_kill_the_next_process_goes_on_where_offsets_were_committed(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    router = Ticks()
    key = router.layout.layout_id
    processes = []
    async with (
        connect("a") as bus,
        bus.tail((LOAD_FORECASTS, DEAD_LETTERS), Start.LATEST) as reader,
    ):
        layout = wire.encode(METRICS_LAYOUTS, key, router.layout, ORIGIN, key, router.at_ms)
        await bus.publish([layout, Outgoing(METRICS_SAMPLES.name, "chat", b"broken")])
        said = Said(reader)
        try:
            processes.append(start_predictor(kafka_section))
            await said.until_foreseen(bus, router)
            while not said.dead or not await committed(kafka_section):
                await said.until_foreseen(bus, router)
            processes[0].kill()
            processes.append(start_predictor(kafka_section))
            await said.until_foreseen(bus, router)
            assert len(said.dead) == 1, "what was committed was not handled again"
            processes[1].send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(processes[1].wait, 20) == 0
        finally:
            for process in processes:
                process.kill()
                process.wait()


async def test_a_killed_worker_s_part_is_taken_over_soon_and_from_its_last_bytes(
    kafka_section: KafkaSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    clear(tmp_path)
    found = await measure(kafka_section.bootstrap_servers, 3, tmp_path, print)
    assert found["state_equal"] is True
    assert float(str(found["max_s"])) <= 6
