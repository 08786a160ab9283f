"""The outside checker: it passes what is right, and names each thing that is wrong."""

import copy
import json
import subprocess
import sys

import pytest

from bench.chaos import plan, rates
from bench.chaos.checker import DEAD, ORDERS, UPDATED, VERDICTS, Books, Watch
from bench.chaos.row_at_a_time import settle
from tests.conftest import ROOT

RIGHT = [
    (ORDERS, {"order_id": "r", "kind": "restock", "lines": [{"item": "a", "quantity": 5}]}),
    (VERDICTS, {"order_id": "r", "verdict": "restocked"}),
    (UPDATED, {"item": "a", "quantity": 5, "status": "restocked", "order_id": "r", "version": 1}),
    (ORDERS, {"order_id": "o", "kind": "order", "lines": [{"item": "a", "quantity": 2}]}),
    (VERDICTS, {"order_id": "o", "verdict": "deducted"}),
    (UPDATED, {"item": "a", "quantity": 2, "status": "deducted", "order_id": "o", "version": 2}),
    (ORDERS, {"order_id": "h", "kind": "reserve", "lines": [{"item": "a", "quantity": 1}]}),
    (VERDICTS, {"order_id": "h", "verdict": "reserved"}),
    (UPDATED, {"item": "a", "quantity": 1, "status": "reserved", "order_id": "h", "version": 3}),
    (ORDERS, {"order_id": "t", "kind": "order", "lines": [], "reservation": "h"}),
    (VERDICTS, {"order_id": "t", "verdict": "deducted"}),
    (UPDATED, {"item": "a", "quantity": 1, "status": "fulfilled", "order_id": "t", "version": 4}),
]
END = {"a": Books(2, 0, 4)}


def judged(story, database=END, held=None):
    watch = Watch()
    for number, (topic, said) in enumerate(story):
        event_id = said.get("id", str(number))
        watch.take(topic, json.dumps(said).encode(), event_id, number)
    return watch.judge(database, held or {}), watch


def changed(at, **fields):
    story = copy.deepcopy(RIGHT)
    story[at][1].update(fields)
    return story


def test_what_is_right_passes_also_when_it_is_said_twice():
    assert not any(judged(RIGHT)[0].values())
    again = [*RIGHT[:6], (UPDATED, {**RIGHT[5][1], "id": "5"}), *RIGHT[6:]]
    again[5] = (UPDATED, {**RIGHT[5][1], "id": "5"})
    assert not any(judged(again)[0].values())


@pytest.mark.parametrize(
    ("wrong", "story", "database"),
    [
        ("lost", RIGHT[:4] + RIGHT[6:], END),  # no verdict, no update
        ("lost", RIGHT[:5] + RIGHT[6:], END),  # the verdict alone
        ("doubled", [*RIGHT, (UPDATED, {**RIGHT[5][1], "version": 5})], {"a": Books(0, 0, 5)}),
        ("doubled", [*RIGHT, (VERDICTS, {**RIGHT[4][1], "reason": "again"})], END),
        ("doubled", changed(4, verdict="rejected"), END),  # refused, and yet deducted
        ("drift", RIGHT, {"a": Books(3, 0, 4)}),
        ("drift", RIGHT, {}),
        ("drift", RIGHT, END | {"b": Books(1, 0, 1)}),
        ("drift", [*RIGHT[:5], RIGHT[8], RIGHT[5], *RIGHT[6:8], *RIGHT[9:]], END),  # reordered
        ("oversold", changed(2, quantity=1), {"a": Books(-2, 0, 4)}),
    ],
)
def test_what_is_wrong_is_named(wrong, story, database):
    counted, _ = judged(story, database)
    assert counted[wrong] > 0, counted


def test_a_reservation_that_the_books_forgot_is_drift():
    counted, _ = judged(RIGHT[:9], {"a": Books(2, 1, 3)}, held={})
    assert counted["drift"] == 1
    assert not any(judged(RIGHT[:9], {"a": Books(2, 1, 3)}, held={"a": 1})[0].values())


def test_what_cannot_be_read_wants_no_verdict():
    watch = Watch()
    for value in (*plan.BAD, b'{"order_id": "x", "lines": [{"item": "a", "quantity": 1.5}]}'):
        watch.take(ORDERS, value, "", 0)
    watch.take(DEAD, b"", "", 0)
    assert (watch.unanswered, watch.unreadable, watch.dead) == (0, 5, 1)


def test_a_plan_is_the_same_for_a_seed_and_has_everything_in_it():
    one, same = list(plan.orders(3000, 7)), list(plan.orders(3000, 7))
    assert one == same
    assert one != list(plan.orders(3000, 8))
    readable = [json.loads(sent.value) for sent in one if sent.key != "bad"]
    kinds = {order["kind"] for order in readable}
    assert kinds == {"order", "reserve", "release", "restock", "correct"}
    assert len({order["order_id"] for order in readable}) == 3000
    assert len(readable) > 3050, "repeats"
    assert set(plan.faults(8, 1, ("a", "b", "c"))) == {"a", "b", "c"}


async def test_the_service_it_is_measured_against_is_right_too(sqlite_world):
    for message in rates.orders(300, "o"):
        order = json.loads(message.value)
        for line in order["lines"]:
            line["quantity"] = min(line["quantity"], 40)  # so that some are short
        async with sqlite_world.engine.begin() as connection:
            await settle(connection, order)
        await sqlite_world.send_raw("one partition", json.dumps(order).encode())
    by_rows = await sqlite_world.stock()
    async with sqlite_world.engine.begin() as connection:
        for table in ("stock", "orders"):
            await connection.exec_driver_sql(f"DELETE FROM {table}")
    await sqlite_world.drain()
    ours = await sqlite_world.stock()
    assert ours == by_rows
    assert ours["hot"][0] == 0, "some were short"


def test_a_rate_is_counted_after_the_first_have_gone_by():
    assert rates.rate([(b"", at_ms) for at_ms in (0, 500, 1000, 1100, 1200)]) == 3 / 0.7


@pytest.mark.bus
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_nothing_is_oversold_lost_or_doubled_while_all_fails(store):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.chaos", "--store", store),
            *("--orders", "2000", "--faults", "6", "--seed", "11"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["orders"] == 2000
    assert figures["faults"] == 6
    assert figures["oversold"] == figures["lost"] == figures["doubled"] == figures["drift"] == 0
