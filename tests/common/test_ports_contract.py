"""One contract, two buses: what a service may rely on holds in memory and on a real Kafka alike."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.common.adapters.clock import WallClock
from libs.common.adapters.memory import MemoryBus
from libs.common.errors import Deposed
from libs.common.ports import RECENT_OFFSETS, Bus, Outgoing, Reader, Record, Start
from libs.common.topics import (
    COMMANDS_ACKS,
    INVENTORY_ORDERS,
    METRICS_SAMPLES,
    PREDICTOR_SNAPSHOTS,
    SCHEDULER_LEADER,
    SCHEDULER_TICKS,
)


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.bus)])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus(WallClock())
    else:
        async with request.getfixturevalue("connect")("a") as kafka_bus:
            yield kafka_bus


async def take(reader: Reader, count: int) -> list[Record]:
    """Read until `count` records have come; the test's own timeout bounds it."""
    found: list[Record] = []
    while len(found) < count:
        found += await reader.poll(0.2)
    return found


def ack(n: int) -> Outgoing:
    return Outgoing(COMMANDS_ACKS.name, f"key-{n}", f"value-{n}".encode(), {"n": str(n).encode()})


async def test_what_is_published_is_read_whole_and_in_order(bus: Bus) -> None:
    await bus.publish([ack(n) for n in range(50)])
    async with bus.tail([COMMANDS_ACKS], Start.EARLIEST) as reader:
        found = await take(reader, 50)
    assert [r.value for r in found] == [f"value-{n}".encode() for n in range(50)]
    assert [r.key for r in found] == [f"key-{n}".encode() for n in range(50)]
    assert [r.headers["n"] for r in found] == [str(n).encode() for n in range(50)]
    assert [r.offset for r in found] == sorted({r.offset for r in found})
    assert {r.topic for r in found} == {COMMANDS_ACKS.name}


async def test_a_reader_from_the_latest_sees_only_what_comes_after(bus: Bus) -> None:
    await bus.publish([ack(0)])
    async with bus.tail([COMMANDS_ACKS], Start.LATEST) as reader:
        assert reader.caught_up()
        await bus.publish([ack(1)])
        assert [r.key for r in await take(reader, 1)] == [b"key-1"]


async def test_a_reader_of_what_is_recent_finds_the_newest_and_not_the_whole_past(bus: Bus) -> None:
    await bus.publish([ack(n) for n in range(RECENT_OFFSETS + 20)])
    async with bus.tail([COMMANDS_ACKS, SCHEDULER_TICKS], Start.RECENT) as reader:
        found = await take(reader, RECENT_OFFSETS)
        assert reader.caught_up()
    assert found[-1].value == f"value-{RECENT_OFFSETS + 19}".encode()
    assert len(found) == RECENT_OFFSETS


async def test_a_reader_knows_when_it_has_read_what_stood_there(bus: Bus) -> None:
    await bus.publish([ack(n) for n in range(3)])
    async with bus.tail([COMMANDS_ACKS], Start.EARLIEST) as reader:
        assert not reader.caught_up()
        found = await take(reader, 3)
        assert reader.caught_up()
        assert len(found) == 3


async def test_a_log_that_ends_in_a_transaction_can_be_caught_up_with(bus: Bus) -> None:
    async with bus.stand(SCHEDULER_LEADER, "a") as candidacy:
        term = await candidacy.elected()
        await term.publish([Outgoing(SCHEDULER_TICKS.name, "tick", b"1")])
        async with bus.tail([SCHEDULER_TICKS], Start.EARLIEST) as reader:
            found = []
            while not reader.caught_up():
                found += await reader.poll(0.2)
    assert [r.value for r in found] == [b"1"]


async def test_an_empty_topic_is_caught_up_with_at_once(bus: Bus) -> None:
    async with bus.tail([COMMANDS_ACKS], Start.EARLIEST) as reader:
        assert reader.caught_up()
        assert await reader.poll(0.05) == []


async def test_the_same_key_goes_to_the_partition_that_the_bus_names(bus: Bus) -> None:
    keys = [f"model-{n}" for n in range(20)]
    await bus.publish([Outgoing(METRICS_SAMPLES.name, key, b"x") for key in keys])
    async with bus.tail([METRICS_SAMPLES], Start.EARLIEST) as reader:
        found = await take(reader, 20)
    assert {r.key.decode(): r.partition for r in found if r.key} == {
        key: bus.partition_of(METRICS_SAMPLES, key) for key in keys
    }
    assert len({r.partition for r in found}) > 1


async def test_a_named_partition_overrides_the_key(bus: Bus) -> None:
    await bus.publish([Outgoing(METRICS_SAMPLES.name, "k", b"x", partition=p) for p in range(4)])
    async with bus.tail([METRICS_SAMPLES], Start.EARLIEST) as reader:
        assert sorted(r.partition for r in await take(reader, 4)) == [0, 1, 2, 3]


async def test_a_group_goes_on_where_it_committed(bus: Bus) -> None:
    await bus.publish([Outgoing(INVENTORY_ORDERS.name, "k", str(n).encode()) for n in range(6)])
    async with bus.subscribe([INVENTORY_ORDERS], "orders") as reader:
        first = await take(reader, 6)
        await reader.commit({(r.topic, r.partition): r.offset + 1 for r in first[:4]})
    async with bus.subscribe([INVENTORY_ORDERS], "orders") as reader:
        assert [r.value for r in await take(reader, 2)] == [b"4", b"5"]
    async with bus.subscribe([INVENTORY_ORDERS], "others") as reader:
        assert len(await take(reader, 6)) == 6


async def test_a_later_leader_has_a_larger_epoch_and_the_earlier_one_is_fenced(bus: Bus) -> None:
    async with bus.stand(SCHEDULER_LEADER, "a") as first:
        term_a = await first.elected()
        await term_a.publish([Outgoing(SCHEDULER_TICKS.name, "tick", b"a")])
    async with bus.stand(SCHEDULER_LEADER, "b") as second:
        term_b = await second.elected()
        assert term_b.epoch > term_a.epoch
        with pytest.raises(Deposed):
            await term_a.publish([Outgoing(SCHEDULER_TICKS.name, "tick", b"zombie")])
        await term_b.publish([Outgoing(SCHEDULER_TICKS.name, "tick", b"b")])
    async with bus.tail([SCHEDULER_TICKS], Start.EARLIEST) as reader:
        assert [r.value for r in await take(reader, 2)] == [b"a", b"b"]


async def test_a_standby_takes_over_when_the_leader_goes(bus: Bus) -> None:
    async with bus.stand(SCHEDULER_LEADER, "b") as standby:
        async with bus.stand(SCHEDULER_LEADER, "a") as leader:
            terms = [asyncio.create_task(c.elected()) for c in (standby, leader)]
            done, waiting = await asyncio.wait(terms, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1, "two leaders at a time"
            if terms[0] in done:  # then it leads already, and the other may go
                waiting.pop().cancel()
                return
        term = await terms[0]
        await term.publish([Outgoing(SCHEDULER_TICKS.name, "tick", b"mine now")])


async def test_the_claim_is_left_on_the_topic_and_its_offset_is_the_epoch(bus: Bus) -> None:
    async with (
        bus.stand(SCHEDULER_LEADER, "a") as candidacy,
        bus.tail([SCHEDULER_LEADER], Start.EARLIEST) as reader,
    ):
        term = await candidacy.elected()
        (claim,) = await take(reader, 1)
        assert claim.offset == term.epoch
        assert claim.key == b"leader"


def part(n: int, text: str = "") -> Outgoing:
    return Outgoing(PREDICTOR_SNAPSHOTS.name, f"2/{n}", (text or str(n)).encode(), partition=2)


async def test_what_a_holder_wrote_is_found_by_the_next_one(bus: Bus) -> None:
    await bus.publish([Outgoing(METRICS_SAMPLES.name, "a", b"", partition=2) for _ in range(5)])
    held = (PREDICTOR_SNAPSHOTS, 2, METRICS_SAMPLES, "g")
    async with bus.hold(*held) as tenure:
        assert await tenure.last(3) == []
        assert tenure.read_end == 5
        assert [r.offset for r in await tenure.read(1, 4)] == [1, 2, 3]
        assert await tenure.read(2, 2) == []
        await tenure.publish([part(n) for n in range(40)], 3)
        await tenure.publish([part(40)], 4)
        assert [r.value for r in await tenure.last(1)] == [b"40"]
    async with bus.hold(*held) as tenure:
        found = await tenure.last(3)
        assert [(r.key, r.value) for r in found] == [(b"2/%d" % n, b"%d" % n) for n in (38, 39, 40)]
        assert {(r.topic, r.partition) for r in found} == {(PREDICTOR_SNAPSHOTS.name, 2)}
        assert [r.value for r in await tenure.last(1000)] == [b"%d" % n for n in range(41)]
    async with bus.subscribe([METRICS_SAMPLES], "g") as reader:
        (record,) = await take(reader, 1)
        assert (record.partition, record.offset) == (2, 4), "the offset was committed with it"


async def test_who_holds_a_partition_deposes_the_one_before(bus: Bus) -> None:
    held = (PREDICTOR_SNAPSHOTS, 2, METRICS_SAMPLES, "g")
    async with bus.hold(*held) as old:
        await old.publish([part(0, "old")], 1)
        async with bus.hold(*held) as new:
            with pytest.raises(Deposed):
                await old.publish([part(0, "late")], 9)
            await new.publish([part(0, "new")], 2)
            assert [r.value for r in await new.last(10)] == [b"old", b"new"]
