"""Watches the inventory from outside: reads its topics and its database, and trusts nothing else.

It shares no code with the service, not even the names of its topics: what is wrong in both would
not be seen. `Watch` takes the records as they come; `verdict` compares the end with the database.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ORDERS, VERDICTS = "inventory.orders", "inventory.verdicts"
UPDATED, DEAD = "inventory.updated", "dead.letters"
TOPICS = (ORDERS, VERDICTS, UPDATED, DEAD)

# What one unit of each status does to the stock and to what is reserved.
EFFECT = {
    "deducted": (-1, 0),
    "reserved": (-1, +1),
    "released": (+1, -1),
    "restocked": (+1, 0),
    "corrected": (+1, 0),
    "fulfilled": (0, -1),
}
ANSWER = {"order": "deducted", "reserve": "reserved", "release": "released"} | {
    "restock": "restocked",
    "correct": "corrected",
}


class Books(NamedTuple):
    """What a row of the stock says."""

    stock: int
    reserved: int
    version: int


class Watch:
    """Everything that was said, and what of it cannot be."""

    def __init__(self) -> None:
        self.orders: dict[str, list[dict[str, Any]]] = defaultdict(list)  # distinct, as they came
        self.first_ms: dict[str, int] = {}
        self.answers: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)  # by event id
        self.latency_ms: list[int] = []
        self.folded: dict[str, Books] = {}
        self.moved: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by order
        self.unreadable = 0
        self.dead = 0
        self.faults: dict[str, list[str]] = defaultdict(list)  # oversold, lost, doubled, drift
        self._said: dict[str, dict[str, Any]] = {}  # by event id
        self._unanswered: set[str] = set()

    @property
    def unanswered(self) -> int:
        """Orders seen so far that have no verdict yet."""
        return len(self._unanswered)

    def take(self, topic: str, value: bytes | None, event_id: str, at_ms: int) -> None:
        """Take one committed record, in the order of its partition."""
        if topic == ORDERS:
            self._order(value, at_ms)
        elif topic == DEAD:
            self.dead += 1
        else:
            said = json.loads(value or b"")
            key = f"{topic} {event_id}"
            before = self._said.setdefault(key, said)
            if before is not said:  # said again, by someone who did not know that it was out
                if {**before, "decided_at_ms": 0} != {**said, "decided_at_ms": 0}:
                    self.faults["doubled"].append(f"{key}: said in other words")
            elif topic == VERDICTS:
                self._verdict(event_id, said, at_ms)
            else:
                self._update(said)

    def _order(self, value: bytes | None, at_ms: int) -> None:
        try:
            order = json.loads(value or b"")
            order_id = order["order_id"]
            readable = isinstance(order_id, str) and all(
                type(line["quantity"]) is int for line in order.get("lines", [])
            )
        except (ValueError, KeyError, TypeError):
            readable = False
        if not readable:
            self.unreadable += 1
            return
        if order not in self.orders[order_id]:
            self.orders[order_id].append(order)
        self.first_ms.setdefault(order_id, at_ms)
        if order_id not in self.answers:
            self._unanswered.add(order_id)

    def _verdict(self, event_id: str, said: dict[str, Any], at_ms: int) -> None:
        order_id = said["order_id"]
        answers = self.answers[order_id]
        answers[event_id] = said
        self._unanswered.discard(order_id)
        if len(answers) == 1 and order_id in self.first_ms:
            self.latency_ms.append(max(0, at_ms - self.first_ms[order_id]))
        carried = [a for a in answers.values() if a["verdict"] != "rejected"]
        if len(carried) > 1:
            self.faults["doubled"].append(f"{order_id}: carried out under {len(carried)} contents")

    def _update(self, said: dict[str, Any]) -> None:
        item, quantity = said["item"], said["quantity"]
        before = self.folded.get(item, Books(0, 0, 0))
        of_stock, of_reserved = EFFECT[said["status"]]
        after = Books(
            before.stock + of_stock * quantity,
            before.reserved + of_reserved * quantity,
            said["version"],
        )
        if said["version"] != before.version + 1:
            self.faults["drift"].append(
                f"{item}: version {said['version']} after {before.version} ({said['order_id']})"
            )
        if after.stock < 0 or after.reserved < 0:
            self.faults["oversold"].append(f"{item}: {after} by {said['order_id']}")
        self.folded[item] = after
        self.moved[said["order_id"]].append(said)

    def judge(self, database: Mapping[str, Books], held: Mapping[str, int]) -> dict[str, int]:
        """Return how many orders or items are wrong in each way, now that all has drained.

        Args:
            database: the rows of the stock.
            held: what the reservations that still hold add up to, by item.
        """
        for order_id in self._unanswered:
            self.faults["lost"].append(f"{order_id}: no verdict")
        for order_id, answers in self.answers.items():
            self._judge_order(order_id, list(answers.values()))
        for order_id in self.moved.keys() - self.answers.keys():
            self.faults["doubled"].append(f"{order_id}: moved stock without a verdict")
        for item in sorted(database.keys() | self.folded.keys()):
            row, folded = database.get(item), self.folded.get(item)
            if row != folded:
                self.faults["drift"].append(f"{item}: database {row}, told {folded}")
            if row is not None and row.stock < 0:
                self.faults["oversold"].append(f"{item}: {row}")
            if row is not None and row.reserved != held.get(item, 0):
                self.faults["drift"].append(f"{item}: {row}, reservations {held.get(item, 0)}")
        self._judge_balance(database)
        counted = {kind: len(self.faults[kind]) for kind in ("oversold", "lost", "doubled")}
        return {**counted, "drift": len(self.faults["drift"])}

    def _judge_order(self, order_id: str, answers: Sequence[dict[str, Any]]) -> None:
        """One order moved what it asked, once; a rejected one nothing."""
        ended = [m for m in self.moved[order_id] if self._is_expiry(order_id, m)]
        moved = Counter[str]()
        for move in self.moved[order_id]:
            if move not in ended:
                moved[move["item"]] += move["quantity"]
        carried = [a for a in answers if a["verdict"] != "rejected"]
        if not carried:
            if moved or ended:
                self.faults["doubled"].append(f"{order_id}: rejected, and moved {dict(moved)}")
            return
        asked = [o for o in self.orders[order_id] if _fits(o, carried[0])]
        if not any(moved == self._lines(order) for order in asked):
            lines = [dict(self._lines(order)) for order in asked]
            fault = (
                "lost" if sum(moved.values()) < max(map(_total, lines), default=0) else "doubled"
            )
            self.faults[fault].append(f"{order_id}: asked {lines}, moved {dict(moved)}")
        if ended and Counter({m["item"]: m["quantity"] for m in ended}) != moved:
            self.faults["doubled"].append(f"{order_id}: reserved {dict(moved)}, gave back {ended}")

    def _is_expiry(self, order_id: str, move: dict[str, Any]) -> bool:
        reserving = any(o.get("kind") == "reserve" for o in self.orders[order_id])
        return bool(reserving and move["status"] == "released")

    def _lines(self, order: dict[str, Any]) -> Counter[str]:
        """What an order asks by item; of a reservation, what that held."""
        if order.get("reservation") is not None:
            held = self.moved.get(order["reservation"], [])
            return Counter({m["item"]: m["quantity"] for m in held if m["status"] == "reserved"})
        found = Counter[str]()
        for line in order["lines"]:
            found[line["item"]] += line["quantity"]
        return found

    def _judge_balance(self, database: Mapping[str, Books]) -> None:
        """Restocked ± corrected − accepted − reserved = stock, by orders and verdicts alone."""
        stock = Counter[str]()
        for order_id, answers in self.answers.items():
            for answer in answers.values():
                if answer["verdict"] == "rejected":
                    continue
                order = next((o for o in self.orders[order_id] if _fits(o, answer)), None)
                if order is None:
                    continue
                sign = {"deducted": -1, "reserved": -1}.get(answer["verdict"], +1)
                if order.get("reservation") is not None and answer["verdict"] == "deducted":
                    continue  # it was taken when it was reserved
                for item, quantity in self._lines(order).items():
                    stock[item] += sign * quantity
        for moves in self.moved.values():
            for move in moves:
                if self._is_expiry(move["order_id"], move):
                    stock[move["item"]] += move["quantity"]
        for item, row in database.items():
            if stock[item] != row.stock:
                self.faults["drift"].append(f"{item}: stock {row.stock}, orders say {stock[item]}")


def _fits(order: dict[str, Any], answer: dict[str, Any]) -> bool:
    return ANSWER.get(order.get("kind", "order")) == str(answer["verdict"])


def _total(lines: Mapping[str, int]) -> int:
    return sum(lines.values())


def percentile(values: Sequence[int], share: float) -> float:
    """Return the value that a share of them does not exceed; 0 where there is none."""
    return float(sorted(values)[min(len(values) - 1, int(share * len(values)))]) if values else 0.0
