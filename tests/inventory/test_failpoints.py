"""A crash before every statement, and at every await: repeated, but never lost or doubled."""

import json

import pytest

from tests.inventory.sim.database import Database
from tests.inventory.sim.failpoints import Failpoints
from tests.inventory.sim.story import Sent
from tests.inventory.sim.world import FAULTS, World

# What the path of an order does not come by: how the service is started and looked at, and what
# only a PostgreSQL or lasting trouble leads to.
ELSEWHERE = {"connect", "_on_sqlite_connect", "_on_sqlite_begin", "_let_go", "__init__"}
ELSEWHERE |= {
    "_end_due",
    "outbox_age_s",
    "outbox_fault",
    "turn",
    "_add",
    "_write_row",
    "once",
    "sift",
}

SLICES = 4  # of the awaits, each a test; on a file, whose syncs are slow, every fifth


def told():
    """Every kind of order and answer, in a few batches."""
    orders = [
        ("r", "restock", {"bolt": 10, "nut": 2, "cog": 6}, {}),
        ("a", "order", {"bolt": 3}, {}),
        ("short", "order", {"bolt": 1, "nut": 5}, {}),
        ("a", "order", {"bolt": 3}, {}),
        ("a", "order", {"bolt": 4}, {}),
        ("unknown", "order", {"gem": 1}, {}),
        ("much", "restock", {"bolt": 100_000_000}, {"twice": True}),
        ("nothing", "correct", {"bolt": 1}, {"cancel": True}),
        ("hold", "reserve", {"cog": 2, "nut": 1}, {}),
        ("back", "release", {}, {"reservation": "hold"}),
        ("keep", "reserve", {"cog": 4}, {}),
        ("other", "order", {"cog": 1}, {"reservation": "keep"}),
        ("take", "order", {}, {"reservation": "keep"}),
        ("twice", "order", {}, {"reservation": "keep"}),
        ("nobody", "release", {}, {"reservation": "none"}),
        ("fix", "correct", {"cog": -1}, {}),
        ("due", "reserve", {"cog": 1}, {"ttl_s": 0.05}),
        ("late", "order", {}, {"reservation": "due"}),
    ]
    sent = []
    for number, (order_id, kind, quantities, more) in enumerate(orders):
        lines = [{"item": item, "quantity": q} for item, q in quantities.items()]
        if more.pop("twice", False):
            lines *= 2
        if more.pop("cancel", False):
            lines.append({"item": "bolt", "quantity": -1})
        order = {"order_id": order_id, "kind": kind, "lines": lines, **more}
        # One key, so one partition. "late" comes when its reservation is over.
        at_ms = 230 if order_id == "late" else 40 * (number // 6)
        sent.append(Sent(at_ms, "one", json.dumps(order).encode()))
    return [*sent, Sent(300, "one", b'{"order_id": ')]


def world_of(database, parts=None):
    world = World(
        1, database, parts=parts, sent=told(), without=FAULTS, instances=1, trouble_ms=400
    )
    world.batch_bytes = 300
    return world


@pytest.fixture(scope="module", params=["memory", "file"])
def database(request, tmp_path_factory):
    if request.param == "memory":
        return Database()
    return Database(tmp_path_factory.mktemp("books") / "books.db")


@pytest.fixture(scope="module")
def failpoints():
    return Failpoints()


def pass_all(database, failpoints):
    """Run without a crash; returns how often each failpoint was passed."""
    failpoints.passed.clear()
    failpoints.crash_at = None
    failpoints.world = world_of(database, failpoints.parts)
    assert failpoints.world.run() == []
    return dict(failpoints.passed)


def test_every_statement_of_the_path_is_passed(database, failpoints):
    passed = pass_all(database, failpoints)
    assert len(passed) > 150
    missed = {point for point in failpoints.known if point not in passed}
    assert {function for _, function, _ in missed} <= ELSEWHERE, sorted(missed)


def test_a_crash_before_any_statement_changes_nothing_of_the_outcome(database, failpoints):
    passed = pass_all(database, failpoints)
    for point, times in passed.items():
        # On a file, whose syncs are slow, the first time alone.
        for nth in sorted({1, (times + 1) // 2}) if database.in_memory else (1,):
            failpoints.passed.clear()
            failpoints.world = world = world_of(database, failpoints.parts)
            failpoints.crash_at = point, nth
            assert world.run() == [], (point, nth)
            assert failpoints.crash_at is None, "it did crash"


@pytest.mark.parametrize("first", range(SLICES))
def test_a_crash_at_any_await_changes_nothing_of_the_outcome(database, first):
    calm = world_of(database)
    assert calm.run() == []
    assert calm.loop.steps > 300
    for step in range(first, calm.loop.steps, SLICES if database.in_memory else 5 * SLICES):
        world = world_of(database)
        world.loop.crash_at_step = step
        assert world.run() == [], step
        assert world.loop.crash_at_step is None, "it did crash"
