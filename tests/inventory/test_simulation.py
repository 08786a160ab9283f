"""The shipped inventory through a thousand seeded histories; and planted bugs, which must show."""

import pytest

from tests.inventory.sim.__main__ import told
from tests.inventory.sim.bugs import BUGS, Shipped, plant
from tests.inventory.sim.database import Database
from tests.inventory.sim.world import FAULTS, run

SEEDS = 1000
SLICE = 100
SEEDS_TO_CATCH = 100


@pytest.fixture(scope="module")
def database():
    return Database()


@pytest.mark.parametrize("first", range(0, SEEDS, SLICE))
def test_no_history_loses_doubles_or_oversells(database, first):
    for seed in range(first, first + SLICE):
        world = run(seed, database)
        assert not world.watch.wrong, told(seed, world, database, Shipped())


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(database, name):
    parts = plant(name)
    assert any(run(seed, database, parts=parts).watch.wrong for seed in range(SEEDS_TO_CATCH))


def test_the_same_seed_is_the_same_history_event_by_event(database):
    for seed in range(10):
        assert run(seed, database).trace == run(seed, Database()).trace
    assert run(1, database).trace != run(2, database).trace


def test_every_fault_comes_and_every_kind_of_answer(database):
    met, verdicts, statuses, reasons = set(), set(), set(), set()
    for seed in range(40):
        world = run(seed, database)
        met.update(line.partition("FAULT ")[2] for line in world.trace)
        for said in world.watch.verdicts.values():
            verdicts.update(v["verdict"] for v in said.values())
            reasons.update(word for v in said.values() for word in v["reason"].split())
        for facts in world.watch.updates.values():
            statuses.update(f["status"] for f in facts)
    assert met >= FAULTS.keys()
    assert verdicts == {"deducted", "reserved", "released", "restocked", "corrected", "rejected"}
    assert statuses == {
        "deducted", "reserved", "released", "restocked", "corrected", "fulfilled",
    }  # fmt: skip
    assert reasons >= {"stock", "item", "order", "unknown", "before", "expired"}


def test_a_failing_seed_is_told_by_the_few_orders_that_it_needs(database):
    parts = plant("published in the wrong order")
    world = run(0, database, parts=parts)
    assert world.watch.wrong
    story = told(0, world, database, parts)
    assert story.startswith("seed 0 fails: version 1 should be next")
    assert story.count(" sent {") <= 3
