"""The books within one transaction, as statements of SQLAlchemy Core, the same for both databases.

The database alone decides whether the stock suffices, by the condition of one UPDATE; nobody reads
first and writes later.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.common.adapters.sql_tables import ORDERS, OUTBOX, RESERVATIONS, STOCK
from libs.common.messages import InventoryVerdict
from libs.common.ports import Announcement, Move, Outgoing, Reservation, Settled, Shortage

_MOVE = (
    update(STOCK)
    .where(
        STOCK.c.item == bindparam("of_item"),
        STOCK.c.stock >= bindparam("taken"),
        STOCK.c.reserved >= bindparam("let_go"),
    )
    .values(
        stock=STOCK.c.stock - bindparam("taken"),
        reserved=STOCK.c.reserved - bindparam("let_go"),
        version=STOCK.c.version + 1,
    )
    .returning(STOCK.c.version)
)
# Rows are locked in one order by all, so that two instances never wait for each other in a circle.
# SQLite, which has no such lock and needs none, leaves the end of it out.
_HOLD = (
    select(STOCK.c.item)
    .where(STOCK.c.item.in_(bindparam("items", expanding=True)))
    .order_by(STOCK.c.item)
    .with_for_update()
)
_RESERVED = (
    select(RESERVATIONS)
    .where(RESERVATIONS.c.order_id == bindparam("of_order"))
    .order_by(RESERVATIONS.c.item)
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
_IN_STOCK = select(STOCK.c.stock).where(STOCK.c.item == bindparam("of_item"))
_SETTLED = select(ORDERS).where(ORDERS.c.order_id.in_(bindparam("order_ids", expanding=True)))


class SqlLedger:
    """The books within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open(
        self, order_ids: Sequence[str], items: Sequence[str], reservations: Sequence[str] = ()
    ) -> dict[str, Settled]:
        """Lock the rows of the items, then return the verdicts there are, by order id.

        In this order: whoever held the items before us has committed its verdicts when we look.
        """
        wanted = set(items)
        if reservations:  # what one holds never changes, so it may be read before the lock
            rows = await self._connection.execute(
                _ITEMS_RESERVED, {"order_ids": list(reservations)}
            )
            wanted.update(row.item for row in rows)
        await self._connection.execute(_HOLD, {"items": sorted(wanted)})
        rows = await self._connection.execute(_SETTLED, {"order_ids": list(order_ids)})
        return {row.order_id: _settled_of(row) for row in rows}

    async def move(
        self, moves: Mapping[str, Move], *, may_add: bool = False
    ) -> dict[str, int] | Shortage:
        """Change all or none; a savepoint undoes the lines before the one that was short."""
        if len(moves) == 1 or may_add:  # one conditional UPDATE is all or none by itself
            return await self._move_each(moves, may_add)
        savepoint = await self._connection.begin_nested()
        outcome = await self._move_each(moves, may_add)
        await (savepoint.rollback() if isinstance(outcome, Shortage) else savepoint.commit())
        return outcome

    async def reservation(self, order_id: str) -> Reservation | None:
        """Lock and return what that order reserved."""
        rows = (await self._connection.execute(_RESERVED, {"of_order": order_id})).all()
        if not rows:
            return None
        quantities = {row.item: row.quantity for row in rows}
        return Reservation(quantities, rows[0].expires_at_ms, rows[0].state)

    async def reserve(self, order_id: str, quantities: Mapping[str, int], until_ms: int) -> None:
        """Insert a row for each item."""
        rows = [
            {
                "order_id": order_id,
                "item": item,
                "quantity": quantity,
                "expires_at_ms": until_ms,
                "state": "held",
            }
            for item, quantity in quantities.items()
        ]
        await self._connection.execute(insert(RESERVATIONS), rows)

    async def end(self, order_id: str, state: str) -> None:
        """Note how a reservation ended."""
        await self._connection.execute(_END, {"of_order": order_id, "ended": state})

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

    async def _move_each(
        self, moves: Mapping[str, Move], may_add: bool
    ) -> dict[str, int] | Shortage:
        versions = {}
        for item, move in moves.items():
            version = await self._change(item, move)
            if version is None and may_add:
                version = await self._stock_first(item, move)
            if version is None:
                in_stock = await self._connection.scalar(_IN_STOCK, {"of_item": item})
                return Shortage(item, in_stock)
            versions[item] = version
        return versions

    async def _change(self, item: str, move: Move) -> int | None:
        parameters = {"of_item": item, "taken": -move.stock, "let_go": -move.reserved}
        version: int | None = await self._connection.scalar(_MOVE, parameters)
        return version

    async def _stock_first(self, item: str, move: Move) -> int:
        """Add an item's row, or to it where another transaction has just added it.

        A row that is not there cannot be locked, and two transactions that add the same rows in
        different orders would wait for each other. So one at a time adds rows, until its commit.
        """
        if self._connection.dialect.name == "postgresql":
            await self._connection.execute(_ADDING)
            version = await self._change(item, move)
            if version is not None:
                return version
        row = {"item": item, "stock": move.stock, "reserved": move.reserved, "version": 1}
        await self._connection.execute(insert(STOCK), row)
        return 1


# --- Rows <-> what the port speaks of -------------------------------------------------------------


def _settled_of(row: Any) -> Settled:
    verdict = InventoryVerdict(
        order_id=row.order_id,
        verdict=row.verdict,
        reason=row.reason,
        decided_at_ms=row.decided_at_ms,
    )
    return Settled(row.content, verdict)


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
