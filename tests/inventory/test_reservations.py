"""Stock that is held for an order to come: taken, given back, or over."""

import pytest

HELD = {"reservation": "hold"}


@pytest.fixture
async def holding(world):
    """Five bolts and five nuts, of which two and one are held for 900 s."""
    await world.send("r", "restock", bolt=5, nut=5)
    await world.drain()
    await world.send("hold", "reserve", bolt=2, nut=1)
    await world.drain()
    return world


async def test_what_is_reserved_is_not_in_stock_for_others(holding):
    assert await holding.books() == {"bolt": (3, 2, 2), "nut": (4, 1, 2)}
    await holding.send("o", bolt=4)
    await holding.drain()
    assert holding.verdict("o")["reason"] == "bolt: 4 wanted, 3 in stock"
    await holding.check()


async def test_an_order_takes_what_its_reservation_holds_once(holding):
    await holding.send("take", more=HELD)
    await holding.drain()
    await holding.send("again", more=HELD)
    await holding.drain()
    assert holding.verdict("take")["verdict"] == "deducted"
    assert holding.verdict("again")["reason"] == "reservation hold: fulfilled before"
    assert await holding.books() == {"bolt": (3, 0, 3), "nut": (4, 0, 3)}
    await holding.clock.advance(1_000_000)
    assert await holding.app.expire() == 0
    await holding.check()


async def test_an_order_that_wants_other_than_is_held_is_refused_and_the_stock_stays_held(holding):
    await holding.send("other", more=HELD, bolt=1)
    await holding.drain()
    reason = holding.verdict("other")["reason"]
    assert reason == "reservation hold: holds 2 bolt, 1 nut, 1 bolt wanted"
    await holding.send("same", more=HELD, nut=1, bolt=2)
    await holding.drain()
    assert holding.verdict("same")["verdict"] == "deducted"
    await holding.check()


async def test_a_release_gives_back_once(holding):
    await holding.send("back", "release", more=HELD)
    await holding.send("back", "release", more=HELD)
    await holding.drain()
    await holding.send("late", more=HELD)
    await holding.drain()
    assert {v["verdict"] for v in holding.verdicts() if v["order_id"] == "back"} == {"released"}
    assert holding.verdict("late")["reason"] == "reservation hold: released before"
    assert await holding.books() == {"bolt": (5, 0, 3), "nut": (5, 0, 3)}
    await holding.check()


async def test_a_reservation_ends_by_itself_once_and_says_so(holding):
    await holding.clock.advance(899_999)
    assert await holding.app.expire() == 0
    await holding.clock.advance(1)
    await holding.send("late", more=HELD)  # before anybody has noted that it is over
    await holding.take()
    assert await holding.app.expire() == 1
    assert await holding.app.expire() == 0
    await holding.send("later", more=HELD)
    await holding.drain()
    assert holding.verdict("late")["reason"] == "reservation hold: expired"
    assert holding.verdict("later")["reason"] == "reservation hold: expired before"
    assert await holding.books() == {"bolt": (5, 0, 3), "nut": (5, 0, 3)}
    await holding.check()


async def test_a_reservation_nobody_made_is_refused(world):
    await world.send("o", more={"reservation": "nothing"})
    await world.drain()
    assert world.verdict("o")["reason"] == "reservation nothing: unknown"


async def test_reserve_and_take_may_come_in_one_batch(world):
    await world.send("r", "restock", key="one", bolt=5)
    await world.send("hold", "reserve", key="one", bolt=2)
    await world.send("take", key="one", more=HELD)
    await world.drain()
    assert world.verdict("take")["verdict"] == "deducted"
    assert await world.books() == {"bolt": (3, 0, 3)}
    await world.check()


async def test_a_correction_adds_either_way_and_never_below_zero(world):
    await world.send("r", "restock", bolt=5, nut=1)
    await world.drain()
    for order_id, change in [("down", {"bolt": -2, "nut": 4}), ("far", {"nut": 1, "bolt": -4})]:
        await world.send(order_id, "correct", **change)
        await world.drain()
    await world.send("new", "correct", cog=1)
    await world.drain()
    assert world.verdict("down")["verdict"] == "corrected"
    assert world.verdict("far")["reason"] == "bolt: 4 wanted, 3 in stock"
    assert world.verdict("new")["reason"] == "cog: 1 wanted, unknown item"
    assert await world.stock() == {"bolt": (3, 2), "nut": (5, 2)}
    await world.check()


async def test_orders_are_forgotten_when_the_bus_can_bring_them_no_more(holding):
    await holding.clock.advance(8 * 86_400_000 + 1)
    assert await holding.app.forget() == 1, "the reservation is still held, so its order stays"
    await holding.app.expire()
    assert await holding.app.forget() == 1
    assert await holding.app.forget() == 0
    assert await holding.held() == []
