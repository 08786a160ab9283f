"""A crash at every step, and many at random: repeated, but never lost or doubled."""

import asyncio
import itertools
import random

import pytest
from sqlalchemy import event

from libs.common.topics import INVENTORY_UPDATED, INVENTORY_VERDICTS


async def tell_the_story(world):
    """Every kind of order, in several batches."""

    # One partition, so that the order of handling does not depend on where a crash came.
    async def send(order_id, kind="order", reservation=None, **quantities):
        more = {"reservation": reservation} if reservation else {}
        await world.send(order_id, kind, key="one", more=more, **quantities)

    await send("r1", "restock", bolt=10, nut=2, cog=6)
    await send("a", bolt=3)
    await send("short", bolt=1, nut=5)  # the bolt goes back
    await send("a", bolt=3)  # again
    await world.send_raw("one", b'{"order_id": ')
    await send("a", bolt=4)  # not the same
    await send("hold", "reserve", cog=2, nut=1)
    await send("back", "release", "hold")
    await send("keep", "reserve", cog=4)
    await send("take", reservation="keep")
    await send("twice", reservation="keep")
    await send("fix", "correct", cog=-1)
    await send("due", "reserve", cog=1)
    await send("b", bolt=7, nut=2)
    await send("none-left", bolt=1)


async def drain_till_due(world):
    """Settle all, then let the reservation that nobody took end."""
    await world.drain()
    await world.clock.advance(901_000)
    await world.app.expire()
    await world.drain()


async def outcome(world):
    answers = await world.check()
    told = {id_: [(v["verdict"], v["reason"]) for v in said] for id_, said in answers.items()}
    return told, await world.stock(), set(world.dead())


async def test_a_crash_at_any_step_changes_nothing_of_the_outcome(make_world):
    calm = make_world(batch_bytes=300)
    await tell_the_story(calm)
    await drain_till_due(calm)
    steps = len(calm.faults.steps)
    expected = await outcome(calm)
    assert expected[0]["none-left"] == [("rejected", "bolt: 1 wanted, 0 in stock")]
    assert expected[0]["twice"] == [("rejected", "reservation keep: fulfilled before")]
    assert expected[1] == {"bolt": (0, 3), "cog": (1, 8), "nut": (0, 4)}
    assert steps > 100
    assert any("UPDATE stock" in step for step in calm.faults.steps)

    for last in range(steps):
        world = make_world(batch_bytes=300)
        await tell_the_story(world)
        world.faults.crash_after = last
        await world.survive(drain_till_due)
        assert world.faults.crash_after is None, "it did crash"
        assert await outcome(world) == expected, calm.faults.steps[last]
        await world.engine.dispose()


@pytest.mark.parametrize("seed", range(10))
async def test_books_balance_after_any_history_of_orders_and_crashes(make_world, seed):
    rng = random.Random(seed)
    world = make_world(batch_bytes=rng.choice([1, 200, 100_000]))
    sent, bad = set(), 0
    for _ in range(8):
        for _ in range(rng.randrange(8)):
            if rng.random() < 0.1:
                await world.send_raw("x", rng.choice([b"", b"nonsense", b'{"order_id": 1}']))
                bad += 1
                continue
            items = rng.sample(["bolt", "nut", "cog"], rng.randint(1, 3))
            kind = rng.choice(["order", "order", "order", "restock"])
            # Few ids and few quantities, so that repeats of both kinds are common.
            sent.add(order_id := f"o{rng.randrange(30)}")
            await world.send(order_id, kind, **{item: rng.randint(1, 3) for item in items})
        if rng.random() < 0.7:
            world.faults.crash_after = rng.randrange(60)
        await world.clock.advance(rng.randrange(500))
        await world.survive()
    world.faults.crash_after = None
    await world.drain()

    answers = await world.check()
    assert answers.keys() == sent
    assert len(world.dead()) >= bad > 0 or bad == 0


async def test_a_relay_that_dies_before_it_notes_the_ack_repeats_the_same_ids(world):
    await world.send("r", "restock", bolt=1)
    await world.take()
    world.faults.crash_at = "published"
    await world.survive()
    for topic in (INVENTORY_VERDICTS, INVENTORY_UPDATED):
        first, second = world.bus.records(topic)
        assert first.value == second.value
        assert first.headers["ce_id"] == second.headers["ce_id"]
    await world.check()


async def test_a_service_cancelled_at_any_statement_leaves_no_lock_behind(make_world):
    cancelled = 0
    for nth in range(12):
        world = make_world()
        await tell_the_story(world)
        serving = asyncio.create_task(world.app.serve())
        statements = itertools.count()

        def cancel(*_, serving=serving, statements=statements, nth=nth):
            if next(statements) == nth:
                serving.cancel()

        event.listen(world.engine.sync_engine, "before_cursor_execute", cancel)
        await asyncio.wait([serving])
        cancelled += serving.cancelled()
        await world.require_unlocked()
        await world.restart()
        await world.drain()
        await world.check()
    assert cancelled == 12
