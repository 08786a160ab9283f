"""The shipped app on each kind of database, and a bus in memory."""

import asyncio
import json

import pytest

from libs.common.ports import Record
from libs.common.topics import INVENTORY_VERDICTS
from services.inventory.app import batches


async def test_an_order_takes_all_its_lines_or_none(world):
    await world.send("r", "restock", bolt=5, nut=5)
    await world.drain()
    await world.send("good", bolt=2, nut=5)
    await world.drain()
    await world.send("short", bolt=3, nut=1)
    await world.drain()
    assert world.verdict("good")["verdict"] == "deducted"
    assert world.verdict("short")["reason"] == "nut: 1 wanted, 0 in stock"
    assert await world.stock() == {"bolt": (3, 2), "nut": (0, 2)}
    await world.check()


async def test_a_rejected_order_leaves_the_others_of_its_transaction_alone(make_world):
    world = make_world(batch_bytes=500_000)
    for key, order in [
        ("r", {"order_id": "r", "kind": "restock", "lines": [{"item": "a", "quantity": 9}]}),
        ("1", {"order_id": "1", "lines": [{"item": "a", "quantity": 1}]}),
        ("2", {"order_id": "2", "lines": [{"item": i, "quantity": 1} for i in ("a", "nothing")]}),
        ("3", {"order_id": "3", "lines": [{"item": "a", "quantity": 1}]}),
    ]:
        await world.send_raw("one partition", json.dumps({**order, "customer": key}).encode())
    await world.drain()
    assert [v["verdict"] for v in world.verdicts()].count("deducted") == 2
    assert world.verdict("2")["reason"] == "nothing: 1 wanted, unknown item"
    assert await world.stock() == {"a": (7, 3)}
    assert world.faults.steps.count("before COMMIT") == 4, "orders, two looks at the outbox, sent"
    await world.check()


async def test_lines_of_the_same_item_count_together(world):
    await world.send("r", "restock", bolt=5)
    await world.drain()
    line = {"item": "bolt", "quantity": 3}
    await world.send_raw("twice", json.dumps({"order_id": "twice", "lines": [line, line]}).encode())
    await world.drain()
    assert world.verdict("twice")["reason"] == "bolt: 6 wanted, 5 in stock"
    assert await world.stock() == {"bolt": (5, 1)}


async def test_a_repeated_order_gets_its_verdict_again_and_moves_nothing(world):
    await world.send("r", "restock", bolt=5)
    await world.drain()
    for _ in range(2):  # twice in one batch, and again later
        await world.send("o", bolt=2)
    await world.drain()
    await world.clock.advance(60_000)
    await world.send("o", bolt=2)
    await world.drain()
    said = [r for r in world.bus.records(INVENTORY_VERDICTS) if r.key == b"o"]
    assert len(said) == 3
    assert {(r.value, r.headers["ce_id"]) for r in said} == {
        (said[0].value, said[0].headers["ce_id"])
    }
    assert await world.stock() == {"bolt": (3, 2)}


async def test_a_rejected_order_stays_rejected_when_the_stock_has_come(world):
    await world.send("o", bolt=1)
    await world.drain()
    await world.send("r", "restock", bolt=1)
    await world.drain()
    await world.send("o", bolt=1)
    await world.drain()
    assert [v["reason"] for v in world.verdicts() if v["order_id"] == "o"] == [
        "bolt: 1 wanted, unknown item"
    ] * 2


async def test_another_order_under_a_used_id_is_refused(world):
    await world.send("r", "restock", bolt=5)
    await world.drain()
    await world.send("o", bolt=2)
    await world.send("o", bolt=1)
    await world.send("o", bolt=2)
    await world.drain()
    verdicts = [v["verdict"] for v in world.verdicts() if v["order_id"] == "o"]
    assert verdicts == ["deducted", "rejected", "deducted"]
    assert await world.stock() == {"bolt": (3, 2)}
    await world.check()


BAD_LINES = [
    '{"item": "bolt", "quantity": 0}',
    '{"item": "bolt", "quantity": -1}',
    '{"item": "bolt", "quantity": NaN}',
    '{"item": "bolt", "quantity": 1e300}',
    '{"item": "bolt", "quantity": 1.5}',
    '{"item": "bolt", "quantity": "3"}',
    '{"item": "bolt", "quantity": true}',
    '{"item": "bolt", "quantity": 100000001}',
    '{"item": "two words", "quantity": 1}',
    '{"quantity": 1}',
]


async def test_what_cannot_be_read_is_a_dead_letter_and_the_next_order_is_unharmed(world):
    bad = [f'{{"order_id": "x", "lines": [{line}]}}'.encode() for line in BAD_LINES]
    bad += [b"", b"{", b"[]", b'{"order_id": "x", "lines": []}', b"\xff" * 900_000]
    bad += [b'{"order_id": "x", "kind": "steal", "lines": [{"item": "bolt", "quantity": 1}]}']
    for value in bad:
        await world.send_raw("one partition", value)
    await world.send_raw(
        "one partition",
        b'{"order_id": "r", "kind": "restock", "lines": [{"item": "bolt", "quantity": 1}]}',
    )
    await world.drain()
    assert len(world.dead()) == len(bad)
    assert all(world.dead())
    assert [v["verdict"] for v in world.verdicts()] == ["restocked"]
    await world.check()


async def test_orders_wait_while_the_bus_takes_nothing_and_the_outbox_says_so(world):
    await world.send("r", "restock", bolt=1)
    await world.take()
    publish, back = world.bus.publish, asyncio.Event()

    async def blocked(messages):
        await back.wait()
        await publish(messages)

    world.bus.publish = blocked
    assert world.app.outbox_fault() is None
    relaying = asyncio.create_task(world.app.relay())
    while world.app.outbox_age_s() == 0:  # until it has looked into the outbox
        await world.clock.advance(11_000)
    assert "outbox is" in world.app.outbox_fault()
    back.set()
    assert await relaying
    assert not await world.app.relay()
    assert world.app.outbox_fault() is None
    await world.check()


async def test_serving_publishes_what_the_last_process_left_and_what_comes(world):
    await world.send("left", "restock", bolt=1)
    await world.take()
    await world.restart()
    published, verdict_out = world.bus.publish, asyncio.Event()

    async def watched(messages):
        await published(messages)
        verdict_out.set()

    world.bus.publish = watched
    serving = asyncio.create_task(world.app.serve())
    await asyncio.wait_for(verdict_out.wait(), 5)
    while await world.waiting():  # then the relay goes to sleep, and the next order must wake it
        pass
    verdict_out.clear()
    await world.send("new", bolt=1)
    await asyncio.wait_for(verdict_out.wait(), 5)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert {v["order_id"]: v["verdict"] for v in world.verdicts()} == {
        "left": "restocked",
        "new": "deducted",
    }


def test_batches_keep_all_records_in_order_within_their_bound():
    sizes = [5, 5, 1, 20, 3, 3, 3, 0]
    records = [Record("t", 0, n, None, b"x" * size, {}, 0) for n, size in enumerate(sizes)]
    cut = [[record.offset for record in batch] for batch in batches(records, 10)]
    assert cut == [[0, 1], [2], [3], [4, 5, 6, 7]]
    assert list(batches([], 10)) == []
