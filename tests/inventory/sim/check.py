"""What must hold, worked out from messages and rows alone, by none of the service's code."""

import json
from collections import Counter, defaultdict

from sqlalchemy import select

from libs.common.adapters.sql_tables import ORDERS, STOCK
from libs.common.topics import DEAD_LETTERS, INVENTORY_ORDERS, INVENTORY_VERDICTS

# What a unit of each status does to the stock and to what is reserved.
OF_STOCK = {"deducted": -1, "reserved": -1, "released": 1, "restocked": 1, "corrected": 1}
OF_RESERVED = {"reserved": 1, "released": -1, "fulfilled": -1}


class Watch:
    """Looks on while it happens, and at what is left in the end."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.on_disk: dict[str, tuple[int, int]] = {}  # item: stock, version
        self.settled: set[str] = set()
        self.stocks = defaultdict(set)  # that an item ever had, by what was said
        self.first: dict[str, bytes] = {}  # what was said under each event id
        self.books = defaultdict(lambda: [0, 0, 0])  # folded: stock, reserved, version
        self.updates = defaultdict(list)
        self.verdicts = defaultdict(dict)

    def committed(self, database) -> None:
        """Look at the rows after a commit."""
        with database.engine.connect() as connection:
            for row in connection.execute(select(STOCK)):
                self.on_disk[row.item] = (row.stock, row.version)
                if row.stock < 0 or row.reserved < 0:
                    self.wrong.append(f"oversold: {row}")
            self.settled.update(connection.scalars(select(ORDERS.c.order_id)))

    def said(self, record) -> None:
        """Look at a message that has just come onto the bus."""
        if record.topic == DEAD_LETTERS.name:
            return
        body, id_ = json.loads(record.value), record.headers["ce_id"].decode()
        if body["order_id"] not in self.settled:
            self.wrong.append(f"said before it was on disk: {body}")
        if id_ in self.first:
            same = self.first[id_] == record.value
            if not same and "used before" not in body.get("reason", ""):
                self.wrong.append(f"{id_}: {record.value!r}, before {self.first[id_]!r}")
            return
        self.first[id_] = record.value
        if record.topic == INVENTORY_VERDICTS.name:
            self.verdicts[body["order_id"]][id_] = body
            return
        self.updates[body["order_id"]].append(body)
        books = self.books[body["item"]]
        books[0] += OF_STOCK.get(body["status"], 0) * body["quantity"]
        books[1] += OF_RESERVED.get(body["status"], 0) * body["quantity"]
        books[2] += 1
        self.stocks[body["item"]].add(books[0])
        if books[0] < 0 or books[1] < 0:
            self.wrong.append(f"below 0 on the bus: {body}")
        if body["version"] != books[2]:
            self.wrong.append(f"version {books[2]} should be next: {body}")
        if body["version"] > self.on_disk.get(body["item"], (0, 0))[1]:
            self.wrong.append(f"said before it was on disk: {body}")

    def in_the_end(self, world) -> None:
        """Compare what was sent, what was said and what is stored."""
        wrong = self.wrong
        stored = world.database.stock()
        if {item: tuple(books) for item, books in self.books.items()} != stored:
            wrong.append(f"bus {dict(self.books)}, database {stored}")
        held = Counter()
        for row in world.database.held():
            held[row.item] += row.quantity
        if held != Counter({item: row[1] for item, row in stored.items() if row[1]}):
            wrong.append(f"held {held}, database {stored}")
        asked, unread = defaultdict(dict), 0
        for record in world.bus.records(INVENTORY_ORDERS):
            try:
                order = json.loads(record.value)
                asked[order["order_id"].strip()][record.value] = order
            except (ValueError, TypeError, AttributeError):
                unread += 1
        dead = {
            (r.headers["dead-partition"], r.headers["dead-offset"])
            for r in world.bus.records(DEAD_LETTERS)
        }
        if len(dead) != unread:
            wrong.append(f"{unread} could not be read, {len(dead)} dead letters")
        if self.verdicts.keys() != asked.keys():
            wrong.append(f"verdicts differ from orders: {self.verdicts.keys() ^ asked.keys()}")
        expected = Counter()
        for order_id, orders in asked.items():
            said = list(self.verdicts[order_id].values())
            final = [v for v in said if "used before" not in v["reason"]]
            if len(said) != len(orders) or len(final) != 1:
                wrong.append(f"{order_id}: {len(orders)} orders, verdicts {said}")
                continue
            self._check_one(order_id, list(orders.values()), final[0], asked, expected)
        for item, (stock, _, _) in stored.items():
            if expected[item] != stock:
                wrong.append(f"{item}: {expected[item]} by the verdicts, {stock} in the database")

    def _check_one(self, order_id, orders, verdict, asked, expected) -> None:
        """Compare one order with its verdict and its facts; add up what it does to the stocks."""
        facts = self.updates[order_id]
        own = [
            f for f in facts if not (f["status"] == "released" and verdict["verdict"] == "reserved")
        ]
        lines = Counter({f["item"]: f["quantity"] for f in own})
        if verdict["verdict"] == "rejected":
            if facts:
                self.wrong.append(f"{order_id}: rejected, and yet {facts}")
            self._check_reason(verdict)
            return
        candidates = [self._lines(order, asked) for order in orders]
        if lines not in candidates or len(own) != len(lines):
            self.wrong.append(f"{order_id}: {candidates} asked, {own} done")
        for fact in facts:
            expected[fact["item"]] += OF_STOCK.get(fact["status"], 0) * fact["quantity"]
        ended = [f for f in facts if f not in own]
        if ended:
            if Counter({f["item"]: f["quantity"] for f in ended}) != lines or len(ended) != len(
                own
            ):
                self.wrong.append(f"{order_id}: {own} reserved, {ended} expired")
            ttl_ms = 1000 * min(o.get("ttl_s", 900) for o in orders)
            if ended[0]["decided_at_ms"] < verdict["decided_at_ms"] + ttl_ms:
                self.wrong.append(f"{order_id}: expired before its time: {ended}")

    def _lines(self, order, asked) -> Counter:
        named = order.get("reservation")
        for of in (order, *(asked.get(named, {}).values() if named else ())):
            if of.get("lines"):
                lines = Counter()
                for line in of["lines"]:
                    lines[line["item"]] += line["quantity"]
                return lines
        return Counter()

    def _check_reason(self, verdict) -> None:
        """A shortage is one that there was, at some time."""
        reason = verdict["reason"]
        if reason.endswith("in stock"):
            item, _, rest = reason.partition(": ")
            wanted, found = (int(word) for word in rest.split() if word.isdigit())
            if found >= wanted or found not in self.stocks[item] | {0}:
                self.wrong.append(f"no such shortage: {verdict}")
