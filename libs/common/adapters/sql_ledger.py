"""The books within one transaction, as statements of SQLAlchemy Core, the same for both databases.

A batch of orders is judged on rows that were locked when they were read. So it takes a statement
an item, not one a line: of a hot item in each of a thousand orders, one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.common.adapters.sql_tables import ORDERS, OUTBOX, RESERVATIONS, STOCK
from libs.common.messages import InventoryVerdict
from libs.common.ports import Announcement, Move, Outgoing, Reservation, Settled, Shortage

# Rows are locked in one order by all, so that two instances never wait for each other in a circle.
# SQLite, which has no such lock and needs none, leaves the end of it out.
_HOLD = (
    select(STOCK)
    .where(STOCK.c.item.in_(bindparam("items", expanding=True)))
    .order_by(STOCK.c.item)
    .with_for_update()
)
_MOVE = (
    update(STOCK)
    .where(
        STOCK.c.item == bindparam("of_item"),
        STOCK.c.version == bindparam("read_version"),
        STOCK.c.stock >= bindparam("taken"),
        STOCK.c.reserved >= bindparam("let_go"),
    )
    .values(
        stock=STOCK.c.stock - bindparam("taken"),
        reserved=STOCK.c.reserved - bindparam("let_go"),
        version=STOCK.c.version + bindparam("moves"),
    )
    .returning(STOCK.c.version)
)
_RESERVED = (
    select(RESERVATIONS)
    .where(RESERVATIONS.c.order_id.in_(bindparam("order_ids", expanding=True)))
    .order_by(RESERVATIONS.c.order_id, RESERVATIONS.c.item)
    .with_for_update()
)
_ITEMS_RESERVED = (
    select(RESERVATIONS.c.item)
    .where(RESERVATIONS.c.order_id.in_(bindparam("order_ids", expanding=True)))
    .distinct()
)
_END = (
    update(RESERVATIONS)
    .where(RESERVATIONS.c.order_id == bindparam("of_order"))
    .values(state=bindparam("ended"))
)
_EXPIRED = (
    select(RESERVATIONS.c.order_id)
    .where(RESERVATIONS.c.state == "held", RESERVATIONS.c.expires_at_ms <= bindparam("now_ms"))
    .group_by(RESERVATIONS.c.order_id)
    .order_by(func.min(RESERVATIONS.c.expires_at_ms), RESERVATIONS.c.order_id)
    .limit(bindparam("at_most"))
)
# Any number will do, as long as nobody else in this database means something else by it.
_ADDING = select(func.pg_advisory_xact_lock(0x506C696D))
_SETTLED = select(ORDERS).where(ORDERS.c.order_id.in_(bindparam("order_ids", expanding=True)))


class Books(NamedTuple):
    """A row of the stock."""

    stock: int
    reserved: int
    version: int


@dataclass(frozen=True)
class _Row:
    """The books of one item as this transaction leaves them, and the version it found."""

    stock: int
    reserved: int
    version: int
    found: Books


class SqlLedger:
    """The books within one transaction.

    Rows are locked when they are read, so what is decided on them here holds until the commit;
    `write` brings them back, each by one UPDATE whose condition says so again.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._rows: dict[str, _Row | None] = {}  # None: there is no such item
        self._reservations: dict[str, Reservation | None] = {}
        self._reserved: list[str] = []  # orders whose reservations are new
        self._ended: list[str] = []

    async def open(
        self, order_ids: Sequence[str], items: Sequence[str], reservations: Sequence[str] = ()
    ) -> dict[str, Settled]:
        """Lock the rows of the items, then return the verdicts there are, by order id.

        In this order: whoever held the items before us has committed its verdicts when we look.
        """
        wanted = set(items)
        if reservations:  # what one holds never changes, so it may be read before the lock
            parameters = {"order_ids": list(reservations)}
            rows = await self._connection.execute(_ITEMS_RESERVED, parameters)
            wanted.update(row.item for row in rows)
        await self._lock(sorted(wanted))
        if reservations:
            await self._lock_reservations(reservations)
        rows = await self._connection.execute(_SETTLED, {"order_ids": list(order_ids)})
        return {row.order_id: _settled_of(row) for row in rows}

    async def move(
        self, moves: Mapping[str, Move], *, may_add: bool = False
    ) -> dict[str, int] | Shortage:
        """Change all or none."""
        await self._lock([item for item in moves if item not in self._rows])
        if may_add:
            await self._add([item for item in moves if self._rows[item] is None])
        changed: dict[str, _Row] = {}
        for item, move in moves.items():
            row = self._rows[item]
            if row is None:
                return Shortage(item, None)
            if row.stock + move.stock < 0 or row.reserved + move.reserved < 0:
                return Shortage(item, row.stock)
            changed[item] = _Row(
                row.stock + move.stock, row.reserved + move.reserved, row.version + 1, row.found
            )
        self._rows.update(changed)
        return {item: row.version for item, row in changed.items()}

    async def reservation(self, order_id: str) -> Reservation | None:
        """Return what that order reserved; `open` has locked its rows."""
        return self._reservations[order_id]

    async def reserve(self, order_id: str, quantities: Mapping[str, int], until_ms: int) -> None:
        """Note a new reservation."""
        self._reservations[order_id] = Reservation(quantities, until_ms, "held")
        self._reserved.append(order_id)

    async def end(self, order_id: str, state: str) -> None:
        """Note how a reservation ended."""
        held = self._reservations[order_id]
        assert held is not None, f"{order_id} was looked at before"
        self._reservations[order_id] = held._replace(state=state)
        self._ended.append(order_id)

    async def expired(self, now_ms: int, limit: int) -> list[str]:
        """Return the orders whose reservations are held and due, oldest first."""
        rows = await self._connection.execute(_EXPIRED, {"now_ms": now_ms, "at_most": limit})
        return [row.order_id for row in rows]

    async def settle(self, orders: Sequence[Settled], outbox: Sequence[Announcement]) -> None:
        """Insert the verdicts, refused by the key where one is there already, and the messages."""
        if orders:
            rows = [{"content": o.content, **o.verdict.model_dump()} for o in orders]
            await self._connection.execute(insert(ORDERS), rows)
        if outbox:
            await self._connection.execute(insert(OUTBOX), [_row_of(each) for each in outbox])

    async def write(self) -> None:
        """Bring what was changed to the database, before the commit.

        Raises:
            OperationalError: a row is not as it was read, though it was locked; try again.
        """
        for item, row in sorted(self._rows.items()):
            if row is not None and row.version != row.found.version:
                await self._write_row(item, row)
        if self._reserved:
            rows = [row for id_ in self._reserved for row in _rows_of(id_, self._reservations[id_])]
            await self._connection.execute(insert(RESERVATIONS), rows)
        if self._ended:
            ended = [(id_, self._reservations[id_]) for id_ in self._ended]
            parameters = [{"of_order": id_, "ended": r.state} for id_, r in ended if r is not None]
            await self._connection.execute(_END, parameters)

    async def _write_row(self, item: str, row: _Row) -> None:
        found = row.found
        if found.version == 0:
            new = {"item": item, "stock": row.stock, "reserved": row.reserved}
            await self._connection.execute(insert(STOCK), {**new, "version": row.version})
            return
        parameters = {
            "of_item": item,
            "read_version": found.version,
            "taken": found.stock - row.stock,
            "let_go": found.reserved - row.reserved,
            "moves": row.version - found.version,
        }
        if await self._connection.scalar(_MOVE, parameters) != row.version:
            raise OperationalError(str(_MOVE), parameters, RuntimeError(f"{item}: a lost race"))

    async def _lock(self, items: Sequence[str]) -> None:
        if items:
            rows = await self._connection.execute(_HOLD, {"items": list(items)})
            self._rows.update(dict.fromkeys(items))
            for row in rows:
                found = Books(row.stock, row.reserved, row.version)
                self._rows[row.item] = _Row(*found, found)

    async def _add(self, items: Sequence[str]) -> None:
        """Begin the books of items that have none, or lock those that another has just begun.

        A row that is not there cannot be locked, and two transactions that add the same rows in
        different orders would wait for each other. So one at a time adds rows, until its commit.
        """
        if items and self._connection.dialect.name == "postgresql":
            await self._connection.execute(_ADDING)
            await self._lock(items)
        for item in items:
            if self._rows[item] is None:
                self._rows[item] = _Row(0, 0, 0, Books(0, 0, 0))

    async def _lock_reservations(self, order_ids: Sequence[str]) -> None:
        rows = await self._connection.execute(_RESERVED, {"order_ids": list(order_ids)})
        self._reservations.update(dict.fromkeys(order_ids))
        for order_id, of_order in groupby(rows, key=lambda row: row.order_id):
            lines = list(of_order)
            quantities = {row.item: row.quantity for row in lines}
            self._reservations[order_id] = Reservation(
                quantities, lines[0].expires_at_ms, lines[0].state
            )


# --- Rows <-> what the port speaks of -------------------------------------------------------------


def _settled_of(row: Any) -> Settled:
    verdict = InventoryVerdict(
        order_id=row.order_id,
        verdict=row.verdict,
        reason=row.reason,
        decided_at_ms=row.decided_at_ms,
    )
    return Settled(row.content, verdict)


def _rows_of(order_id: str, held: Reservation | None) -> Iterator[dict[str, Any]]:
    assert held is not None, order_id
    for item, quantity in held.quantities.items():
        yield {
            "order_id": order_id,
            "item": item,
            "quantity": quantity,
            "expires_at_ms": held.expires_at_ms,
            "state": "held",
        }


def _row_of(announcement: Announcement) -> dict[str, Any]:
    message = announcement.message
    assert message.partition is None, message  # the key chooses it
    return {
        "topic": message.topic,
        "key": message.key,
        "value": message.value,
        "headers": {name: value.decode() for name, value in message.headers.items()},
        "ordered_at_ms": announcement.ordered_at_ms,
        "decided_at_ms": announcement.decided_at_ms,
    }


def announcement_of(row: Any) -> Announcement:
    """Return what a row of the outbox says."""
    headers = {name: value.encode() for name, value in row.headers.items()}
    message = Outgoing(row.topic, row.key, row.value, headers)
    return Announcement(message, row.ordered_at_ms, row.decided_at_ms)
