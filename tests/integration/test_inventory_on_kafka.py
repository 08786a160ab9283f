"""The inventory's whole process on the real Kafka: stopped and replaced, or two at a time."""

import asyncio
import itertools
import json
from collections import defaultdict

import pytest
from sqlalchemy import select

from cli import inventory
from libs.common.adapters import sql, sql_tables
from libs.common.adapters.clock import WallClock
from libs.common.adapters.service import Context
from libs.common.errors import ContractError
from libs.common.ports import Outgoing, Start
from libs.common.settings import load
from libs.common.telemetry import Health
from libs.common.topics import (
    DEAD_LETTERS,
    INVENTORY_ORDERS,
    INVENTORY_UPDATED,
    INVENTORY_VERDICTS,
)
from libs.common.wire import Origin
from services.inventory.__main__ import main, migrate
from services.inventory.settings import InventorySettings

pytestmark = pytest.mark.bus
ORDERS = 300


def order(order_id, kind="order", **quantities):
    lines = [{"item": item, "quantity": quantity} for item, quantity in quantities.items()]
    value = json.dumps({"order_id": order_id, "kind": kind, "lines": lines}).encode()
    return Outgoing(INVENTORY_ORDERS.name, order_id, value)


class Verdicts:
    """What was answered, by order id; the same answer said again counts once."""

    def __init__(self, reader):
        self.reader = reader
        self.by_order = defaultdict(set)
        self.records = []

    async def wait_for(self, order_ids, service, answers=1):
        """Read on until each order has so many; fail with the service if it does."""
        while any(len(self.by_order[order_id]) < answers for order_id in order_ids):
            if service.done():
                service.result()
            for record in await self.reader.poll(1.0):
                said = json.loads(record.value)
                self.records.append(record)
                self.by_order[said["order_id"]].add((said["verdict"], said["decided_at_ms"]))

    def of(self, order_id):
        return sorted(verdict for verdict, _ in self.by_order[order_id])


async def stop(service):
    service.cancel()
    await asyncio.wait([service])
    assert service.cancelled() or service.exception() is None


async def facts(bus):
    """The changes of stock in order within an item, repeats dropped; and why letters are dead."""
    updates, reasons = {}, []
    async with bus.tail([INVENTORY_UPDATED, DEAD_LETTERS], Start.EARLIEST) as reader:
        while not reader.caught_up():
            for record in await reader.poll(1.0):
                if record.topic == DEAD_LETTERS.name:
                    reasons.append(record.headers["dead-reason"].decode())
                else:
                    updates[record.headers["ce_id"]] = json.loads(record.value)
    return list(updates.values()), reasons


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/books.db"
    else:
        postgres = request.getfixturevalue("postgres")
        yield postgres.create("on_kafka")
        postgres.drop("on_kafka")


@pytest.fixture
async def serve(connect, database, monkeypatch):
    """Runs an instance on the one database, under a name."""
    monkeypatch.setenv("PLIMSOLL_INVENTORY__DATABASE_URL", database)
    settings = load(InventorySettings)
    await migrate(settings.inventory)

    async def run(instance):
        async with connect(instance) as bus:
            context = Context(Origin("inventory", instance), bus, WallClock(), Health(20.0))
            await main(settings, context)

    return lambda instance: asyncio.create_task(run(instance))


async def stock_in(database):
    engine = sql.connect(database)
    async with engine.connect() as connection:
        rows = await connection.execute(select(sql_tables.STOCK))
        stock = {row.item: row.stock for row in rows}
    await engine.dispose()
    return stock


async def test_orders_are_settled_once_though_the_service_is_stopped_amid_them(
    connect, serve, database
):
    ids = [f"o{n}" for n in range(ORDERS)]
    async with connect("app") as bus, bus.tail([INVENTORY_VERDICTS], Start.EARLIEST) as reader:
        verdicts = Verdicts(reader)
        await bus.publish([order("r", "restock", bolt=ORDERS)])
        service = serve("a")
        await verdicts.wait_for(["r"], service)
        await bus.publish([Outgoing(INVENTORY_ORDERS.name, "bad", b'{"order_id":')])
        await bus.publish([order(order_id, bolt=1) for order_id in ids])
        await verdicts.wait_for(["o0"], service)
        await stop(service)

        service = serve("b")
        await verdicts.wait_for(ids, service)
        await bus.publish([order("o0", bolt=1), order("o1", bolt=2), order("late", bolt=1)])
        await verdicts.wait_for(["late"], service)
        await verdicts.wait_for(["o1"], service, answers=2)
        await stop(service)
        updates, reasons = await facts(bus)

    assert all(verdicts.of(order_id) == ["deducted"] for order_id in ids if order_id != "o1")
    assert verdicts.of("o1") == ["deducted", "rejected"]
    assert verdicts.of("late") == ["rejected"]
    assert [reason[:8] for reason in reasons] == ["not JSON"]
    assert [u["version"] for u in updates] == list(range(1, ORDERS + 2)), "the order of commits"
    assert sum(u["quantity"] for u in updates if u["status"] == "deducted") == ORDERS
    assert await stock_in(database) == {"bolt": 0}


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_two_instances_on_one_database_double_nothing_and_one_alone_goes_on(
    connect, serve, database
):
    items = [f"item-{n}" for n in range(5)]
    first, second = ([f"{part}{n}" for n in range(ORDERS)] for part in "xy")

    def orders(ids):
        return [
            order(id_, **{items[n % 5]: 1, items[(n * 3 + 1) % 5]: 1}) for n, id_ in enumerate(ids)
        ]

    async with connect("app") as bus, bus.tail([INVENTORY_VERDICTS], Start.EARLIEST) as reader:
        verdicts = Verdicts(reader)
        a, b = serve("a"), serve("b")
        await bus.publish([order(f"r-{item}", "restock", **{item: 10 * ORDERS}) for item in items])
        await verdicts.wait_for([f"r-{item}" for item in items], a)
        rounds, deciders = itertools.count(), set()
        while len(deciders) < 2:  # until then, a partition may still be about to change hands
            ids = [f"warm-{next(rounds)}-{n}" for n in range(20)]
            before = len(verdicts.records)
            await bus.publish([order(id_, nothing=1) for id_ in ids])
            await verdicts.wait_for(ids, b)
            deciders = {record.headers["ce_source"] for record in verdicts.records[before:]}
        before = len(verdicts.records)
        await bus.publish(orders(first))
        await verdicts.wait_for(first, b)
        said = len(verdicts.records) - before
        await stop(b)
        await bus.publish(orders(second))
        await verdicts.wait_for(second, a)
        await stop(a)
        updates, reasons = await facts(bus)

    assert said == ORDERS, "each verdict once"
    assert all(verdicts.of(order_id) == ["deducted"] for order_id in (*first, *second))
    assert reasons == []
    left = dict.fromkeys(items, 10 * ORDERS)
    versions = dict.fromkeys(items, 0)
    for update in updates:
        versions[update["item"]] += 1
        assert update["version"] == versions[update["item"]], "the order of commits, by item"
        left[update["item"]] -= update["quantity"] if update["status"] == "deducted" else 0
    assert await stock_in(database) == left


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_person_is_told_the_verdict_and_what_changed_and_that_it_was_settled_before(
    connect, serve
):
    def typed(kind, order_id, item=None, quantity=None, **more):
        items, quantities = ([item], [quantity]) if item else ([], [])
        return inventory.order_of(kind, items, quantities, order_id=order_id, **more)

    async with connect("cli") as bus:
        service = serve("a")
        said = await inventory.send(bus, typed("restock", "r", "widget", 5))
        assert said == ["r: restocked", "  widget: 5 restocked, version 1"]
        said = await inventory.send(bus, typed("order", "o", "widget", 3))
        assert said == ["o: deducted", "  widget: 3 deducted, version 2"]
        await asyncio.sleep(1.2)
        (said,) = await inventory.send(bus, typed("order", "o", "widget", 3))
        assert said.startswith("o: deducted; it was settled before, at ")
        (said,) = await inventory.send(bus, typed("order", "p", "widget", 3))
        assert said == "p: rejected (widget: 3 wanted, 2 in stock)"
        await inventory.send(bus, typed("reserve", "h", "widget", 2))
        said = await inventory.send(bus, typed("release", "back", reservation="h"))
        assert said == ["back: released", "  widget: 2 released, version 4"]
        await stop(service)


def test_an_order_that_cannot_be_is_refused_before_it_is_sent():
    for kind, items, quantities, why in [
        ("order", ["a"], [0], "a quantity of 0"),
        ("order", ["a"], [-1], "a quantity of -1"),
        ("order", ["a", "b"], [1], "each --item wants its --qty"),
        ("order", ["two words"], [1], "item"),
        ("order", [], [], "at least one"),
    ]:
        with pytest.raises(ContractError, match=why):
            inventory.order_of(kind, items, quantities, order_id=None)
