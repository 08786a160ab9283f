"""What an order asks and what it is answered, apart from the one thing that the database decides.

Whether the stock suffices is not decided here: a function would have to be told the stock first,
and by the time it has answered, the stock may be another.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

from libs.common.messages import InventoryOrder, InventoryUpdated, InventoryVerdict

# What one `inventory.updated` may carry; the lines of an order may add up to more.
QUANTITY_MAX = 100_000_000


class Asked(NamedTuple):
    """An order as the books see it."""

    order_id: str
    kind: Literal["order", "restock"]
    quantities: dict[str, int]  # by item, sorted: all orders lock their rows in one order
    content: str  # a digest of all of it and the customer; equal where the order is the same


class Settlement(NamedTuple):
    """What is answered to an order, and a fact for each item whose stock it changed."""

    content: str  # of the order, as of `Asked`
    verdict: InventoryVerdict
    updates: tuple[InventoryUpdated, ...] = ()


def read(order: InventoryOrder) -> Asked:
    """Return what the order asks; lines of the same item are added up."""
    quantities: dict[str, int] = {}
    for line in sorted(order.lines, key=lambda line: line.item):
        quantities[line.item] = quantities.get(line.item, 0) + line.quantity
    text = json.dumps([order.kind, order.customer, quantities])
    content = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Asked(order.order_id, order.kind, quantities, content)


def event_id(order_id: str, content: str, position: int) -> str:
    """Return the id of what an order caused: 0 is its verdict, n the change of its nth item.

    It derives from the order alone, so that whoever says it again says it under the same id, and
    a reader that drops the ids it has seen counts nothing twice.
    """
    return f"{order_id}/{content}/{position}"


def judge(asked: Asked, prior: Settlement | None, now_ms: int) -> Settlement | None:
    """Return the answer that needs no look at the stock, or None where the stock must say.

    An order that was settled before gets its verdict again; another order under the same id is
    refused, and leaves the first as it is.
    """
    if prior is not None:
        if prior.content == asked.content:
            return Settlement(prior.content, prior.verdict)
        return _reject(asked, "order_id was used before, for another order", now_ms)
    for item, quantity in asked.quantities.items():
        if quantity > QUANTITY_MAX:
            return _reject(asked, f"{item}: {quantity} in all, at most {QUANTITY_MAX}", now_ms)
    return None


def settle(asked: Asked, versions: Mapping[str, int], now_ms: int) -> Settlement:
    """Return the answer to an order that the stock has carried; `versions` are by item."""
    assert versions.keys() == asked.quantities.keys(), (asked, versions)
    status: Literal["deducted", "restocked"] = "deducted" if asked.kind == "order" else "restocked"
    updates = tuple(
        InventoryUpdated(
            item=item,
            quantity=quantity,
            status=status,
            order_id=asked.order_id,
            version=versions[item],
            decided_at_ms=now_ms,
        )
        for item, quantity in asked.quantities.items()
    )
    verdict = InventoryVerdict(order_id=asked.order_id, verdict=status, decided_at_ms=now_ms)
    return Settlement(asked.content, verdict, updates)


def fall_short(asked: Asked, item: str, in_stock: int | None, now_ms: int) -> Settlement:
    """Return the answer to an order that one item's stock could not carry; None is no such item."""
    found = "unknown item" if in_stock is None else f"{in_stock} in stock"
    return _reject(asked, f"{item}: {asked.quantities[item]} wanted, {found}", now_ms)


def _reject(asked: Asked, reason: str, now_ms: int) -> Settlement:
    verdict = InventoryVerdict(
        order_id=asked.order_id, verdict="rejected", reason=reason, decided_at_ms=now_ms
    )
    return Settlement(asked.content, verdict)
