"""What a worker remembers comes back whole to the next one, or is passed over and said so."""

import asyncio
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from libs.common import plimsoll_pb2 as pb
from libs.common import series, wire
from libs.common.errors import Deposed
from libs.common.messages import LoadTrigger
from libs.common.ports import Outgoing, Record
from libs.common.ticks import Coder
from libs.common.topics import (
    LOAD_TRIGGERS,
    METRICS_SAMPLES,
    PREDICTOR_SNAPSHOTS,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
)
from services.predictor import snapshots, telemetry
from services.predictor.core import snapshot
from services.predictor.core.partition import Partition, step
from services.predictor.core.registry import NOTHING_DECLARED, Registry
from services.predictor.core.source import CHANGING, Policy, Source
from services.predictor.parts import GROUP, Part
from services.predictor.snapshots import CHUNK_BYTES, Refused
from tests.predictor.world import ORIGIN, SNAPSHOT_MS, START_MS, World

SENT = 67
PLACE = (GROUP, METRICS_SAMPLES.name, 1)
SKIPPED = telemetry.SKIPPED.labels("held")


def outcome(kind: str) -> float:
    return float(telemetry.RESTORES.labels(kind)._value.get())


def bytes_of(part: Part, world: World) -> bytes:
    packed = snapshot.pack(part.state, world.declared.layouts)
    snapshots.pack_runs(part.chains, packed)
    return packed.SerializeToString(deterministic=True)


async def part_of(world: World) -> Part:
    part = await world.parts.get(1)
    assert part is not None
    return part


async def declare(world: World, declared: Registry) -> None:
    for topic, name, spec in (
        (REGISTRY_MODELS, "chat", declared.models["chat"]),
        (REGISTRY_DEVICES, "n/0", declared.devices["n/0"]),
    ):
        await world.bus.publish([wire.encode(topic, name, spec, ORIGIN, name, START_MS)])
    said = LoadTrigger(model="chat", at_ms=START_MS + 4000, duration_s=2, factor=2.0)
    await world.bus.publish([wire.encode(LOAD_TRIGGERS, "chat", said, ORIGIN, "id", START_MS)])


class Feed:
    """A router, a host and an app in one partition: coded ticks, small ones, JSON, bad records."""

    def __init__(self, router: Callable, collector: Callable) -> None:
        self.router, self.host = router("chat"), collector("host", "n1")
        self.host.at_ms = START_MS
        self.coder = Coder(self.router.layout)
        self.number = 0

    async def announce(self, world: World) -> None:
        for source in (self.router, self.host):
            await world.announce(source.layout)

    async def send(self, *worlds: World) -> None:
        value, kind = self.next()
        for world in worlds:
            await world.take(value, kind)
        await worlds[0].clock.advance(50)

    def next(self) -> tuple[bytes, bytes]:
        self.number += 1
        if self.number % 7 == 0:
            return b"broken", wire.PROTOBUF
        if self.number % 5 == 0:
            self.host.set(series.HOST_CPU_COUNT, "n1", 2)
            self.host.set(series.HOST_MEMORY_TOTAL, "n1", 1)
            self.host.add(series.HOST_CPU_BUSY_S, "n1", 0.05)
            return self.host.tick().SerializeToString(), wire.PROTOBUF
        if self.number % 11 == 0:
            said = (
                f'{{"source": "app", "at_ms": {self.router.at_ms}, "next_by_ms":'
                f' {self.router.at_ms + 900}, "samples": [{{"metric": "{series.ARRIVALS}",'
                f' "model": "other", "value": {self.number}}}]}}'
            )
            return said.encode(), wire.JSON
        self.router.add(series.ARRIVALS, "chat", 3 + self.number % 4)
        sight = self.router.sight()
        tick = self.coder.encode(sight.values, sight.at_ms, sight.next_by_ms)
        return tick.SerializeToString(), wire.PROTOBUF


async def test_a_successor_goes_on_from_the_same_bytes_and_takes_nothing_twice(
    router: Callable, collector: Callable, declared: Registry
) -> None:
    first, feed = World(), Feed(router, collector)
    await feed.announce(first)
    await declare(first, declared)
    undisturbed = World(clock=first.clock)
    await feed.announce(undisturbed)
    await declare(undisturbed, declared)
    async with undisturbed.running():
        async with first.running():
            for _ in range(SENT):
                await feed.send(first, undisturbed)
                await asyncio.sleep(0.002)  # for the thread that compresses
        # It is killed between two snapshots. The next one is handed what was not committed, and by
        # a rebalance some records more.
        committed = first.bus._committed[PLACE]
        assert 0 < committed < SENT
        second, before = World(first.bus, first.clock), SKIPPED._value.get()
        async with second.running():
            part, same = await part_of(second), await part_of(undisturbed)
            assert part.next_offset == committed
            for record in first.bus.records(METRICS_SAMPLES)[committed - 5 :]:
                await second.predictor.take(record)
            assert SKIPPED._value.get() == before + 5
            assert list(part.state.sources) == ["router/0", "host/n1", "app"]
            assert part.state.sources["router/0"].plans["chat"].lifts, "announced, not yet over"
            assert bytes_of(part, second) == bytes_of(same, undisturbed)
            for _ in range(70):
                await feed.send(second, undisturbed)
            assert not part.state.sources["router/0"].plans["chat"].lifts
            assert bytes_of(part, second) == bytes_of(same, undisturbed)
            assert second.forecasts()[-1] == undisturbed.forecasts()[-1]


async def test_a_snapshot_is_written_when_something_came_and_not_otherwise(
    router: Callable,
) -> None:
    world, source = World(), router("chat")
    await world.announce(source.layout)
    async with world.running():
        for wanted in (1, 2, 3):
            await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
            await world.clock.advance(SNAPSHOT_MS)
            await until(lambda wanted=wanted: world.bus._committed.get(PLACE) == wanted)
        await world.clock.advance(5 * SNAPSHOT_MS)
    records = world.bus.records(PREDICTOR_SNAPSHOTS)
    assert [r.key for r in records] == [b"1/0"] * 3
    assert [snapshots.read_chunk(r).next_offset for r in records] == [1, 2, 3]
    assert world.bus._committed[PLACE] == 3


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def test_every_field_of_a_source_is_in_a_snapshot_or_made_anew() -> None:
    kept = {"layout", "at_ms", "next_by_ms", "values", "plans", *CHANGING}
    anew = {"registry", "columns", "priors", "announced"}
    assert {field.name for field in fields(Source)} == kept | anew


def seen(router: Callable, registry: Registry) -> Partition:
    source, state = router("chat", "draw"), Partition({})
    for n in range(30):
        source.add(series.ARRIVALS, "chat", n % 5)
        source.add(series.LOADS, "chat", 1)
        sight = source.sight()
        state, _ = step(state, sight, registry, Policy(), sight.at_ms)
    return state


def test_under_another_registry_what_is_known_of_the_rest_stays(
    router: Callable, declared: Registry
) -> None:
    state = seen(router, declared)
    layout = state.sources["router/0"].layout
    packed = snapshot.pack(state, {layout.layout_id: layout})
    assert not packed.sources[0].HasField("layout")
    back = snapshot.unpack(packed, {layout.layout_id: layout}, NOTHING_DECLARED, Policy())
    source, was = back.sources["router/0"], state.sources["router/0"]
    assert source.registry is NOTHING_DECLARED
    assert source.record.tobytes() == was.record.tobytes()
    rows = [was.columns.pairs.index(pair) for pair in source.columns.pairs]
    assert source.sums.tobytes() == was.sums[rows].tobytes()


def test_a_source_whose_layout_is_gone_is_left_out(router: Callable) -> None:
    state = seen(router, NOTHING_DECLARED)
    packed = snapshot.pack(state, {state.sources["router/0"].layout.layout_id: pb.Layout()})
    assert snapshot.unpack(packed, {}, NOTHING_DECLARED, Policy()) == Partition({})


def records_of(data: bytes, before: int = 0, next_offset: int = 7) -> list[Record]:
    out = snapshots.cut(data, 1, next_offset, before, ORIGIN, START_MS)
    return [
        Record(o.topic, 1, n, o.key.encode(), o.value, o.headers, START_MS)
        for n, o in enumerate(out)
    ]


def large() -> pb.PartitionState:
    noise = np.random.default_rng(1).bytes(3 * CHUNK_BYTES)
    return pb.PartitionState(sources=[pb.SourceState(layout_id="x", values=noise)])


def test_a_large_state_is_cut_and_joined_and_takes_its_old_parts_away() -> None:
    records = records_of(snapshots.compress(large()), before=6)
    gone = [record.key for record in records if record.value is None]
    assert gone == [b"1/4", b"1/5"], "before the rest, so that the newest records are the snapshot"
    parts = records[2:]
    assert [record.key for record in parts] == [b"1/0", b"1/1", b"1/2", b"1/3"]
    assert all(len(record.value or b"") < 1_000_000 for record in parts)
    assert snapshots.join(parts) == snapshots.Snapshot(7, large())


@pytest.mark.parametrize("torn", [lambda p: p[1:], lambda p: [p[0], *p[2:]], lambda p: p[::-1]])
def test_a_torn_snapshot_is_refused(torn: Callable) -> None:
    with pytest.raises(Refused) as refused:
        snapshots.join(torn(records_of(snapshots.compress(large()))))
    assert refused.value.kind == "torn"


def test_parts_of_two_snapshots_are_none() -> None:
    data = snapshots.compress(large())
    with pytest.raises(Refused, match="parts"):
        snapshots.join(records_of(data, next_offset=6)[:2] + records_of(data)[2:])


def chunk(**changed: object) -> bytes:
    data = snapshots.compress(pb.PartitionState())
    fields = {"form": snapshot.FORM, "next_offset": 1, "chunks": 1, "data": data, **changed}
    return pb.SnapshotChunk(**fields).SerializeToString()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (chunk(form="0-of-another-time"), "other_form"),
        (chunk(chunks=3), "torn"),
        (chunk(chunks=0), "torn"),
        (chunk(data=b"broken"), "unreadable"),
        (b"\xff", "unreadable"),
        (chunk(next_offset=10**6), "other_log"),
        (chunk(data=snapshots.compress(large())), "unreadable"),
    ],
)
async def test_a_snapshot_that_cannot_be_used_is_counted_and_the_state_begins_anew(
    router: Callable, value: bytes, kind: str
) -> None:
    world, source, before = World(), router("chat"), outcome(kind)
    layout = source.layout
    await world.announce(layout)
    await world.announce(pb.Layout(layout_id="x", source="x", series=layout.series))
    await world.take_none()
    await world.bus.publish([Outgoing(PREDICTOR_SNAPSHOTS.name, "1/0", value, partition=1)])
    async with world.running():
        assert (await part_of(world)).next_offset == 0
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        assert len(world.forecasts()) == 1
        await world.clock.advance(2 * SNAPSHOT_MS)
        await until(lambda: world.bus._committed.get(PLACE, 0) == 2)
    assert outcome(kind) == before + 1
    newest = world.bus.records(PREDICTOR_SNAPSHOTS)[-1]
    assert snapshots.join([newest]).next_offset == 2, "from then on there is one again"


async def test_what_a_rebalance_passes_over_is_made_up_for_from_the_log(router: Callable) -> None:
    world, source = World(), router("chat")
    await world.announce(source.layout)
    async with world.running():
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        part, before = await part_of(world), telemetry.TICKS._value.get()
        for _ in range(3):
            value = source.tick().SerializeToString()
            await world.bus.publish([Outgoing(METRICS_SAMPLES.name, "chat", value, partition=1)])
        await world.predictor.take(world.bus.records(METRICS_SAMPLES)[-1])
    assert telemetry.TICKS._value.get() == before + 3
    assert (part.next_offset, part.state.sources["router/0"].at_ms) == (4, source.at_ms)


async def test_a_worker_that_lost_its_partition_unheard_ends_itself(router: Callable) -> None:
    old, source = World(), router("chat")
    await old.announce(source.layout)

    async def lose() -> None:
        async with old.running():
            await old.take(source.tick().SerializeToString(), wire.PROTOBUF)
            async with World(old.bus, old.clock).running():
                await old.take(source.tick().SerializeToString(), wire.PROTOBUF)
                await old.clock.advance(SNAPSHOT_MS)
                await until(lambda: bool(old.ended))

    with pytest.raises(ExceptionGroup) as raised:
        await lose()
    assert raised.group_contains(Deposed)


async def test_what_a_rebalance_gives_back_is_not_read_again(router: Callable) -> None:
    world, source = World(), router("chat")
    await world.announce(source.layout)
    async with world.running():
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        part, restored = await part_of(world), outcome("none") + outcome("restored")
        await world.parts.release()
        assert world.bus._committed[PLACE] == 1, "all is left behind before it may go"
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        await world.clock.advance(2 * SNAPSHOT_MS)
        assert world.bus._committed[PLACE] == 1, "nothing is written while nobody knows whose it is"
        world.predictor.keep({0, 1})
        assert await part_of(world) is part
        world.predictor.keep({0})
        assert part.gone
        await world.predictor.take(world.bus.records(METRICS_SAMPLES)[-1])
        assert len(world.forecasts()) == 2
    assert outcome("none") + outcome("restored") == restored + 1, "that of the other partition"
