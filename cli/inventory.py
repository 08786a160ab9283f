"""Sends one order to the inventory, and tells what became of it."""

import time
import uuid
from collections.abc import Sequence
from time import monotonic

from pydantic import ValidationError

from cli.follow import Follower
from cli.local.processes import LocalError
from libs.common.errors import ContractError
from libs.common.messages import InventoryOrder, InventoryUpdated, InventoryVerdict
from libs.common.ports import Bus, Record
from libs.common.topics import INVENTORY_ORDERS, INVENTORY_UPDATED, INVENTORY_VERDICTS
from libs.common.wire import Origin, decode_json, describe, encode

VERDICT_WITHIN_S = 10.0
# A verdict decided so long before its order was sent is an old one; clocks differ by less.
BEFORE_MS = 1000


def order_of(
    kind: str,
    items: Sequence[str],
    quantities: Sequence[int],
    *,
    order_id: str | None,
    **more: object,
) -> InventoryOrder:
    """Return the order that was typed, with `more` of its fields; an id is made up if need be.

    Raises:
        ContractError: no such order can be; says why.
    """
    if len(items) != len(quantities):
        raise ContractError("each --item wants its --qty, in the same order")
    lines = [
        {"item": item, "quantity": quantity}
        for item, quantity in zip(items, quantities, strict=True)
    ]
    made_up = f"{kind}-{uuid.uuid4().hex[:12]}"
    fields = {"order_id": order_id or made_up, "kind": kind, "lines": lines, **more}
    try:
        return InventoryOrder.model_validate(fields)
    except ValidationError as error:
        raise ContractError(describe(error)) from error


async def send(bus: Bus, order: InventoryOrder) -> list[str]:
    """Send the order and wait for its verdict; returns lines for a person.

    Raises:
        LocalError: there was no verdict within ten seconds.
    """
    told: list[InventoryVerdict] = []
    updates: list[InventoryUpdated] = []

    def take(record: Record) -> None:
        if record.topic == INVENTORY_VERDICTS.name:
            verdict = decode_json(record, InventoryVerdict)
            if verdict.order_id == order.order_id:
                told.append(verdict)
        else:
            update = decode_json(record, InventoryUpdated)
            if update.order_id == order.order_id:
                updates.append(update)

    async with Follower(bus, [INVENTORY_VERDICTS, INVENTORY_UPDATED], take) as follower:
        await follower.read_for(0)
        now_ms = time.time_ns() // 1_000_000
        event_id = f"{order.order_id}-{now_ms}"
        origin = Origin("cli", "inventory")
        await bus.publish(
            [encode(INVENTORY_ORDERS, order.order_id, order, origin, event_id, now_ms)]
        )
        until = monotonic() + VERDICT_WITHIN_S
        while not told:
            await follower.read_for(0.05)
            if monotonic() > until:
                raise LocalError(
                    f"no verdict on {order.order_id} within {VERDICT_WITHIN_S:.0f} s."
                    " Does the inventory service run (plimsoll demo, docker compose up)?"
                    " The order waits for it; sent again under this id, it is settled once."
                )
        again = told[-1].decided_at_ms < now_ms - BEFORE_MS
        if told[-1].verdict != "rejected" and not again:
            await follower.read_for(0.3)  # what it changed is said just after it
    return [in_words(told[-1], again), *map(_changed, updates)]


def in_words(verdict: InventoryVerdict, again: bool) -> str:
    """Return a verdict as a line for a person."""
    said = f"{verdict.order_id}: {verdict.verdict}"
    if verdict.reason:
        said += f" ({verdict.reason})"
    if again:
        at = time.strftime("%H:%M:%S", time.localtime(verdict.decided_at_ms / 1000))
        said += f"; it was settled before, at {at}, and nothing was moved again"
    return said


def _changed(update: InventoryUpdated) -> str:
    return f"  {update.item}: {update.quantity} {update.status}, version {update.version}"
