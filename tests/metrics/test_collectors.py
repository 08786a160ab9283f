import asyncio
import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import plimsoll_pb2 as pb
from libs.common import series, settings, wire
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import SettingError
from libs.common.ports import GpuReading, HostReading
from libs.common.telemetry import Health
from libs.common.ticks import Chains, layout_id
from libs.common.topics import METRICS_LAYOUTS, METRICS_SAMPLES
from libs.common.wire import Origin
from services.metrics.app import REFUSED, Collector, collect, collectors_of
from services.metrics.core import columns
from services.metrics.settings import MetricsSection, MetricsSettings

SECTION = MetricsSection(node="n1")
ORIGIN = Origin("metrics", "a")
START_MS = 1_800_000_000_000


class FakeHost:
    """A machine whose every counter is the number of times it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> HostReading:
        self.asked += 1
        return HostReading(self.asked, 4, 50, 100, math.nan)

    def disk_busy_s(self) -> float:
        self.asked += 1
        return float(self.asked)


class FakeGpus:
    def read(self) -> list[GpuReading]:
        return [GpuReading(gpu, 0.1 + gpu, 2, 3, 4, 5, 6) for gpu in (0, 1)]


class World:
    """Collectors on a bus in memory. Readings run in threads, so ticks are awaited, not assumed."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.bus = MemoryBus(self.clock)
        self.health = Health(20)

    def start(self, *collectors: Collector) -> list[asyncio.Task[None]]:
        common = (SECTION.node, ORIGIN, self.bus, self.clock, self.health)
        return [asyncio.create_task(collect(collector, *common)) for collector in collectors]

    async def ticks(self, count: int) -> list[pb.Tick]:
        while len(records := self.bus.records(METRICS_SAMPLES)) < count:
            await self.bus._grown.wait()
        await self.clock.advance(0)  # lets the collectors go to sleep
        assert len(records) == count
        assert {record.key for record in records} == {b"n1"}
        return [wire.decode_protobuf(record, pb.Tick) for record in records]

    def layout_of(self, tick: pb.Tick) -> pb.Layout:
        found = [wire.decode_protobuf(r, pb.Layout) for r in self.bus.records(METRICS_LAYOUTS)]
        return next(layout for layout in found if layout.layout_id == layout_id(tick))

    def source(self, tick: pb.Tick) -> str:
        return self.layout_of(tick).source


@pytest.fixture
async def world():  # type: ignore[no-untyped-def]
    before = asyncio.all_tasks()
    yield World()
    for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
        task.cancel()


async def test_a_reading_is_one_message_whose_layout_is_known(world: World) -> None:
    host, *_ = collectors_of(SECTION, FakeHost(), None)
    world.start(host)
    (tick,) = await world.ticks(1)
    layout = world.layout_of(tick)
    assert layout.source == "host/n1"
    told = dict(zip([s.metric for s in layout.series], Chains().read(tick, layout), strict=True))
    assert told[series.HOST_CPU_BUSY_S] == 1
    assert told[series.HOST_CPU_COUNT] == 4
    assert told[series.HOST_MEMORY_USED] == 50
    assert told[series.HOST_MEMORY_TOTAL] == 100
    assert math.isnan(told[series.HOST_NETWORK_BYTES]), "not known is not zero"
    assert {s.node for s in layout.series} == {"n1"}


async def test_each_collector_keeps_its_own_pace_and_says_so(world: World) -> None:
    world.start(*collectors_of(SECTION, FakeHost(), None))
    count = 2
    await world.ticks(count)
    for second in range(1, 11):
        await world.clock.advance(1000)
        count += 2 if second % 5 == 0 else 1
        await world.ticks(count)
    ticks = await world.ticks(14)
    host = [tick for tick in ticks if world.source(tick) == "host/n1"]
    disk = [tick for tick in ticks if world.source(tick) == "disk/n1"]
    assert [tick.at_ms - START_MS for tick in host] == [1000 * k for k in range(11)]
    assert [tick.at_ms - START_MS for tick in disk] == [0, 5000, 10_000]
    assert [tick.sequence for tick in disk] == [1, 2, 3]
    assert {tick.holds_ms for tick in host} == {2000}
    assert {tick.holds_ms for tick in disk} == {10_000}


async def test_a_reading_that_is_infinite_is_left_out_and_counted(world: World) -> None:
    readings = iter([1.0, math.inf, 3.0])
    series_of_disk = columns.node_series(columns.DISK, "n1")
    world.start(Collector("disk", 1000, series_of_disk, lambda: np.array([next(readings)])))
    before = REFUSED.labels("disk")._value.get()
    await world.ticks(1)
    await world.clock.advance(1000)
    while REFUSED.labels("disk")._value.get() == before:
        await asyncio.sleep(0.01)
    await world.clock.advance(1000)
    first, second = await world.ticks(2)
    assert (first.sequence, second.sequence) == (1, 2)
    assert Chains().read(second, world.layout_of(second)) == [3.0]


async def test_what_could_not_be_sent_is_left_out(world: World) -> None:
    publish, back = world.bus.publish, asyncio.Event()
    world.start(collectors_of(SECTION, FakeHost(), None)[0])
    await world.ticks(1)

    async def away(messages):  # type: ignore[no-untyped-def]
        waiting.set()
        await back.wait()
        await publish(messages)

    waiting = asyncio.Event()
    world.bus.publish = away  # type: ignore[method-assign]
    await world.clock.advance(1000)
    await waiting.wait()
    await world.clock.advance(60_500)
    back.set()
    ticks = await world.ticks(2)
    assert [tick.at_ms - START_MS for tick in ticks] == [0, 1000]
    await world.clock.advance(500)
    assert (await world.ticks(3))[-1].at_ms == START_MS + 62_000, "on the beat again"


async def test_a_reading_that_hangs_is_told(world: World) -> None:
    release = threading.Event()

    def hang() -> np.ndarray:
        release.wait(10)
        return np.zeros(1)

    (task,) = world.start(Collector("disk", 1000, columns.node_series(columns.DISK, "n1"), hang))
    try:
        await world.clock.advance(0)
        await world.clock.advance(11_000)
        world.health.check()
        assert "a reading takes 11 s" in world.health.missing()["disk/n1"]
    finally:
        release.set()
    await world.ticks(1)
    world.health.check()
    assert not world.health.missing()
    task.cancel()


async def test_gpus_are_a_source_of_their_own_where_there_are_any(world: World) -> None:
    collectors = collectors_of(SECTION, FakeHost(), FakeGpus())
    assert [collector.name for collector in collectors] == ["host", "disk", "gpu"]
    world.start(collectors[2])
    (tick,) = await world.ticks(1)
    layout = world.layout_of(tick)
    values = Chains().read(tick, layout)
    told = {(s.metric, s.device): v for s, v in zip(layout.series, values, strict=True)}
    assert told[(series.GPU_UTILIZATION, "n1/1")] == 1.1
    assert told[(series.GPU_TEMPERATURE, "n1/0")] == 6
    assert len(told) == 12
    counters = {s.metric for s in layout.series if s.kind == pb.Series.COUNTER}
    assert counters == {series.GPU_ENERGY}


@given(st.integers(1, 9), st.randoms())
def test_every_value_meets_its_own_series(count: int, random) -> None:  # type: ignore[no-untyped-def]
    readings = [(float(gpu), *(random.random() for _ in columns.GPU)) for gpu in range(count)]
    layout = columns.gpu_series(range(count), "n")
    values = columns.gpu_values(readings)
    for column, value in zip(layout, values, strict=True):
        gpu = int(column.device.partition("/")[2])
        assert value == readings[gpu][1 + columns.GPU.index(column.metric)]


def test_the_node_is_named_after_the_host_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load(MetricsSettings).metrics.node
    monkeypatch.setenv("PLIMSOLL_METRICS__NODE", "gpu-box-7")
    assert settings.load(MetricsSettings).metrics.node == "gpu-box-7"
    monkeypatch.setenv("PLIMSOLL_METRICS__NODE", "a name")
    with pytest.raises(SettingError, match="PLIMSOLL_METRICS__NODE='a name'"):
        settings.load(MetricsSettings)
