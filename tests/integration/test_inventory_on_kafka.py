"""The inventory's whole process on the real Kafka, stopped and replaced in the middle."""

import asyncio
import json
import sqlite3
from collections import defaultdict

import pytest

from libs.common.adapters.clock import WallClock
from libs.common.adapters.service import Context
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
from services.inventory.__main__ import main
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

    async def wait_for(self, order_ids, service, answers=1):
        """Read on until each order has so many; fail with the service if it does."""
        while any(len(self.by_order[order_id]) < answers for order_id in order_ids):
            if service.done():
                service.result()
            for record in await self.reader.poll(1.0):
                said = json.loads(record.value)
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


async def test_orders_are_settled_once_though_the_service_is_stopped_amid_them(
    connect, tmp_path, monkeypatch
):
    url = f"sqlite+aiosqlite:///{tmp_path}/books.db"
    monkeypatch.setenv("PLIMSOLL_INVENTORY__DATABASE_URL", url)
    settings = load(InventorySettings)

    async def serve(instance):
        async with connect(instance) as bus:
            context = Context(Origin("inventory", instance), bus, WallClock(), Health(20.0))
            await main(settings, context)

    ids = [f"o{n}" for n in range(ORDERS)]
    async with connect("app") as bus, bus.tail([INVENTORY_VERDICTS], Start.EARLIEST) as reader:
        verdicts = Verdicts(reader)
        await bus.publish([order("r", "restock", bolt=ORDERS)])
        service = asyncio.create_task(serve("a"))
        await verdicts.wait_for(["r"], service)
        await bus.publish([Outgoing(INVENTORY_ORDERS.name, "bad", b'{"order_id":')])
        await bus.publish([order(order_id, bolt=1) for order_id in ids])
        await verdicts.wait_for(["o0"], service)
        await stop(service)

        service = asyncio.create_task(serve("b"))
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
    with sqlite3.connect(tmp_path / "books.db") as books:
        assert books.execute("SELECT item, stock FROM stock").fetchall() == [("bolt", 0)]
