"""What an order asks and what it is answered, apart from the one thing that the database decides.

Whether the stock suffices is not decided here: a function would have to be told the stock first,
and by the time it has answered, the stock may be another.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from libs.common.messages import (
    QUANTITY_MAX,
    InventoryOrder,
    InventoryUpdated,
    InventoryVerdict,
    LineStatus,
    OrderKind,
)
from libs.common.ports import Move, Reservation, Settled, Shortage

Cause = Literal["shortage", "unknown_item", "used_id", "quantity", "reservation"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

# What one unit of each status does to the stock and to what is reserved.
EFFECTS: Mapping[LineStatus, Move] = {
    "deducted": Move(-1),
    "reserved": Move(-1, +1),
    "released": Move(+1, -1),
    "restocked": Move(+1),
    "corrected": Move(+1),
    "fulfilled": Move(0, -1),
}


class Asked(NamedTuple):
    """An order as the books see it."""

    order_id: str
    kind: OrderKind
    quantities: dict[str, int]  # by item, sorted: all orders lock their rows in one order
    content: str  # a digest of all of it and the customer; equal where the order is the same
    reservation: str | None = None
    ttl_s: float = 0.0

    @property
    def status(self) -> LineStatus:
        """What becomes of its lines, where the books carry them."""
        if self.reservation is not None:
            return "fulfilled" if self.kind == "order" else "released"
        of_kind: dict[OrderKind, LineStatus] = {
            "order": "deducted",
            "reserve": "reserved",
            "restock": "restocked",
            "correct": "corrected",
        }
        return of_kind[self.kind]


class Settlement(NamedTuple):
    """What is answered to an order, and a fact for each item whose books it changed."""

    content: str  # of the order, as of `Asked`
    verdict: InventoryVerdict
    updates: tuple[InventoryUpdated, ...] = ()
    cause: Cause | None = None  # of a rejection, as metrics name it


def read(order: InventoryOrder) -> Asked:
    """Return what the order asks; lines of the same item are added up."""
    quantities: dict[str, int] = {}
    for line in sorted(order.lines, key=lambda line: line.item):
        quantities[line.item] = quantities.get(line.item, 0) + line.quantity
    ttl_s = order.ttl_s if order.kind == "reserve" else 0.0
    text = json.dumps([order.kind, order.customer, quantities, order.reservation, ttl_s])
    content = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Asked(order.order_id, order.kind, quantities, content, order.reservation, ttl_s)


def event_id(order_id: str, content: str, position: int) -> str:
    """Return the id of what an order caused: 0 is its verdict, n the change of its nth item.

    It derives from the order alone, so that whoever says it again says it under the same id, and
    a reader that drops the ids it has seen counts nothing twice.
    """
    return f"{order_id}/{content}/{position}"


def judge(asked: Asked, prior: Settled | None, now_ms: int) -> Settlement | None:
    """Return the answer that needs no look at the books, or None where they must say.

    An order that was settled before gets its verdict again; another order under the same id is
    refused, and leaves the first as it is.
    """
    if prior is not None:
        if prior.content == asked.content:
            return Settlement(prior.content, prior.verdict)
        return _reject(asked, "used_id", "order_id was used before, for another order", now_ms)
    for item, quantity in asked.quantities.items():
        if abs(quantity) > QUANTITY_MAX:  # which lines may add up to, and no fact may carry
            reason = f"{item}: {quantity} in all, at most {QUANTITY_MAX}"
            return _reject(asked, "quantity", reason, now_ms)
        if quantity == 0:  # of a correction, whose lines may cancel out
            return _reject(asked, "quantity", f"{item}: 0 in all", now_ms)
    return None


def judge_reservation(asked: Asked, found: Reservation | None, now_ms: int) -> Settlement | None:
    """Return why the reservation that an order names cannot be had, or None where it can."""
    name = asked.reservation
    if found is None:
        why = "unknown"
    elif found.state != "held":
        why = f"{found.state} before"
    elif found.expires_at_ms <= now_ms:
        why = "expired"
    elif asked.quantities and asked.quantities != found.quantities:
        why = f"holds {_listed(found.quantities)}, {_listed(asked.quantities)} wanted"
    else:
        return None
    return _reject(asked, "reservation", f"reservation {name}: {why}", now_ms)


def moves(status: LineStatus, quantities: Mapping[str, int]) -> dict[str, Move]:
    """Return what these quantities do to the books of each item, sorted by item."""
    per_unit = EFFECTS[status]
    return {
        item: Move(per_unit.stock * quantity, per_unit.reserved * quantity)
        for item, quantity in sorted(quantities.items())
    }


def settle(
    asked: Asked, quantities: Mapping[str, int], versions: Mapping[str, int], now_ms: int
) -> Settlement:
    """Return the answer to an order that the books have carried; `versions` are by item."""
    assert versions.keys() == quantities.keys(), (asked, versions)
    status = asked.status
    verdict = InventoryVerdict(
        order_id=asked.order_id,
        verdict="deducted" if status == "fulfilled" else status,
        decided_at_ms=now_ms,
    )
    updates = facts(asked.order_id, status, quantities, versions, now_ms)
    return Settlement(asked.content, verdict, updates)


def facts(
    order_id: str,
    status: LineStatus,
    quantities: Mapping[str, int],
    versions: Mapping[str, int],
    now_ms: int,
) -> tuple[InventoryUpdated, ...]:
    """Return a fact for each item, sorted by item."""
    return tuple(
        InventoryUpdated(
            item=item,
            quantity=quantities[item],
            status=status,
            order_id=order_id,
            version=versions[item],
            decided_at_ms=now_ms,
        )
        for item in sorted(quantities)
    )


def fall_short(asked: Asked, short: Shortage, now_ms: int) -> Settlement:
    """Return the answer to an order that one item's stock could not carry."""
    wanted = f"{short.item}: {abs(asked.quantities[short.item])} wanted"
    if short.in_stock is None:
        return _reject(asked, "unknown_item", f"{wanted}, unknown item", now_ms)
    return _reject(asked, "shortage", f"{wanted}, {short.in_stock} in stock", now_ms)


def _listed(quantities: Mapping[str, int]) -> str:
    return ", ".join(f"{quantity} {item}" for item, quantity in sorted(quantities.items()))


def _reject(asked: Asked, cause: Cause, reason: str, now_ms: int) -> Settlement:
    verdict = InventoryVerdict(
        order_id=asked.order_id, verdict="rejected", reason=reason, decided_at_ms=now_ms
    )
    return Settlement(asked.content, verdict, cause=cause)
