"""The inventory's books in a SQL database: SQLite as a file, PostgreSQL by URL.

The statements are plain SQLAlchemy Core, the same for both. The database alone decides whether the
stock suffices, by the condition of one UPDATE; nobody reads first and writes later. The tables are
made by `services/inventory/migrations`, and a test holds the two together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    event,
    func,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from libs.common.adapters.sql_patience import is_passing, say_when_it_lasts
from libs.common.errors import SettingError
from libs.common.messages import InventoryVerdict
from libs.common.ports import Announcement, Ledger, Outgoing, R, Settled, Shortage
from libs.common.settings import without_password

TABLES = MetaData()
STOCK = Table(
    "stock",
    TABLES,
    Column("item", String(200), primary_key=True),
    Column("stock", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),  # one more with each change
    CheckConstraint("stock >= 0", name="stock_never_negative"),
)
ORDERS = Table(
    "orders",
    TABLES,
    Column("order_id", String(200), primary_key=True),
    Column("content", String(64), nullable=False),  # a digest of what was ordered
    Column("verdict", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
)
# SQLite counts only a plain INTEGER key by itself, and only AUTOINCREMENT keeps it from giving the
# place of a deleted row to a new one.
OUTBOX = Table(
    "outbox",
    TABLES,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("topic", String(200), nullable=False),
    Column("key", String(200), nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("ordered_at_ms", BigInteger, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

_DEDUCT = (
    update(STOCK)
    .where(STOCK.c.item == bindparam("of_item"), STOCK.c.stock >= bindparam("quantity"))
    .values(stock=STOCK.c.stock - bindparam("quantity"), version=STOCK.c.version + 1)
    .returning(STOCK.c.version)
)
_RESTOCK = (
    update(STOCK)
    .where(STOCK.c.item == bindparam("of_item"))
    .values(stock=STOCK.c.stock + bindparam("quantity"), version=STOCK.c.version + 1)
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
# Any number will do, as long as nobody else in this database means something else by it.
_ADDING = select(func.pg_advisory_xact_lock(0x506C696D))
_IN_STOCK = select(STOCK.c.stock).where(STOCK.c.item == bindparam("of_item"))
_SETTLED = select(ORDERS).where(ORDERS.c.order_id.in_(bindparam("order_ids", expanding=True)))
_UNSENT = select(OUTBOX).order_by(OUTBOX.c.place).limit(bindparam("at_most"))
_SENT = delete(OUTBOX).where(OUTBOX.c.place.in_(bindparam("places", expanding=True)))


def connect(url: str, *, statement_s: float | None = None) -> AsyncEngine:
    """Return an engine for the database at `url`; a SQLite file's folder is made if need be.

    A server that leaves a statement without an answer for `statement_s` is taken for away.

    Raises:
        SettingError: the URL cannot be read, or names a driver that is not installed.
    """
    try:
        parsed = make_url(url)
        embedded = parsed.get_backend_name() == "sqlite"
        bounds = {"timeout": _CONNECT_S, "command_timeout": statement_s}
        # SQLite has one writer at a time. With one connection our own tasks queue for it fairly,
        # in the pool, and do not poll for the file's lock.
        engine = create_async_engine(
            parsed,
            pool_size=1 if embedded else 5,
            max_overflow=0,
            connect_args={"timeout": _LOCK_WAIT_S} if embedded else bounds,
        )
    except (
        ArgumentError,
        InvalidRequestError,
        ModuleNotFoundError,
        TypeError,
        ValueError,
    ) as error:
        # A TypeError is SQLite without a file: it has no pool, and would forget all at the end.
        raise SettingError(
            f"database URL {without_password(url)}: {without_password(str(error))};"
            " sqlite+aiosqlite:///file or postgresql+asyncpg://user:password@host/name wanted"
        ) from error
    if embedded:
        assert parsed.database, "a pool, and so a file"
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
        event.listen(engine.sync_engine, "begin", _on_sqlite_begin)
    return engine


TRIES_AT_LEAST = 3


class SqlStore:
    """The books and the outbox in the tables above. Trouble that lasts `retry_s` is raised."""

    def __init__(self, engine: AsyncEngine, retry_s: float) -> None:
        self._engine = engine
        self._retry_s = retry_s

    async def transact(self, work: Callable[[Ledger], Awaitable[R]]) -> R:
        """Run `work` in one transaction, again from its start after passing trouble."""
        return await self._retry(lambda connection: work(SqlLedger(connection)))

    async def unsent(self, limit: int) -> dict[int, Announcement]:
        """Return what has waited longest, by place.

        Places follow the order of commits for each item: whoever writes here holds the lock of the
        item's row until the commit.
        """

        async def read(connection: AsyncConnection) -> dict[int, Announcement]:
            rows = await connection.execute(_UNSENT, {"at_most": limit})
            return {row.place: _announcement_of(row) for row in rows}

        return await self._retry(read)

    async def sent(self, places: Sequence[int]) -> None:
        """Delete these rows; by their exact places, for a lower one may be committed later."""

        async def remove(connection: AsyncConnection) -> None:
            await connection.execute(_SENT, {"places": list(places)})

        await self._retry(remove)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold, while inside, a lock that belongs to no row; SQLite's one process needs none.

        Without a connection, there is none: then the work inside, which needs one too, will tell.
        """
        async with AsyncExitStack() as exits:
            if self._engine.dialect.name == "postgresql":
                with suppress(DBAPIError, OSError):
                    connection = await self._engine.connect()
                    exits.push_async_callback(_let_go, connection)
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{_TURN_S}s'"))
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN_LOCK})"))
            yield

    async def _retry(self, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        async def whole() -> R:
            async with self._engine.begin() as connection:
                return await work(connection)

        async def once() -> R:
            # A cancelled statement goes on in the driver's thread, where the pool does not see it,
            # and could keep the file locked. So a transaction ends before its caller is cancelled.
            transaction = asyncio.create_task(whole())
            try:
                return await asyncio.shield(transaction)
            except asyncio.CancelledError:
                await asyncio.wait([transaction])
                if not transaction.cancelled():
                    transaction.exception()  # looked at, or asyncio would complain of it later
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_passing),
            wait=wait_random_exponential(multiplier=0.02, max=1),
            # One try may last that long, waiting for another's lock: it is no reason to give up.
            stop=stop_after_delay(self._retry_s) & stop_after_attempt(TRIES_AT_LEAST),
            before_sleep=say_when_it_lasts,
            reraise=True,
        )
        return await retrying(once)


class SqlLedger:
    """The books within one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def open(self, order_ids: Sequence[str], items: Sequence[str]) -> dict[str, Settled]:
        """Lock the rows of `items`, then return the verdicts there are, by order id.

        In this order: whoever held the items before us has committed its verdicts when we look.
        """
        await self._connection.execute(_HOLD, {"items": list(items)})
        rows = await self._connection.execute(_SETTLED, {"order_ids": list(order_ids)})
        return {row.order_id: _settled_of(row) for row in rows}

    async def deduct(self, quantities: Mapping[str, int]) -> dict[str, int] | Shortage:
        """Take all or none; a savepoint undoes the lines before the one that was short."""
        if len(quantities) == 1:  # one conditional UPDATE is all or none by itself
            return await self._deduct_each(quantities)
        savepoint = await self._connection.begin_nested()
        outcome = await self._deduct_each(quantities)
        await (savepoint.rollback() if isinstance(outcome, Shortage) else savepoint.commit())
        return outcome

    async def restock(self, quantities: Mapping[str, int]) -> dict[str, int]:
        """Add each quantity, to a new row where the item has none."""
        versions = {}
        for item, quantity in quantities.items():
            version = await self._change(_RESTOCK, item, quantity)
            if version is None:
                version = await self._stock_first(item, quantity)
            versions[item] = version
        return versions

    async def settle(self, orders: Sequence[Settled], outbox: Sequence[Announcement]) -> None:
        """Insert the verdicts, refused by the key where one is there already, and the messages."""
        if orders:
            rows = [{"content": o.content, **o.verdict.model_dump()} for o in orders]
            await self._connection.execute(insert(ORDERS), rows)
        if outbox:
            await self._connection.execute(insert(OUTBOX), [_row_of(each) for each in outbox])

    async def _stock_first(self, item: str, quantity: int) -> int:
        """Add an item's row, or to it where another transaction has just added it.

        A row that is not there cannot be locked, and two transactions that add the same rows in
        different orders would wait for each other. So one at a time adds rows, until its commit.
        """
        if self._connection.dialect.name == "postgresql":
            await self._connection.execute(_ADDING)
            version = await self._change(_RESTOCK, item, quantity)
            if version is not None:
                return version
        row = {"item": item, "stock": quantity, "version": 1}
        await self._connection.execute(insert(STOCK), row)
        return 1

    async def _deduct_each(self, quantities: Mapping[str, int]) -> dict[str, int] | Shortage:
        versions = {}
        for item, quantity in quantities.items():
            version = await self._change(_DEDUCT, item, quantity)
            if version is None:
                in_stock = await self._connection.scalar(_IN_STOCK, {"of_item": item})
                return Shortage(item, in_stock)
            versions[item] = version
        return versions

    async def _change(self, statement: Any, item: str, quantity: int) -> int | None:
        parameters = {"of_item": item, "quantity": quantity}
        version: int | None = await self._connection.scalar(statement, parameters)
        return version


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


def _announcement_of(row: Any) -> Announcement:
    headers = {name: value.encode() for name, value in row.headers.items()}
    message = Outgoing(row.topic, row.key, row.value, headers)
    return Announcement(message, row.ordered_at_ms, row.decided_at_ms)


# --- PostgreSQL -----------------------------------------------------------------------------------

_CONNECT_S = 5.0
_TURN_S = 5
_TURN_LOCK = 7446001  # a number of ours among the locks of a database


async def _let_go(connection: AsyncConnection) -> None:
    with suppress(DBAPIError, OSError):  # of one that was lost the server has let go by itself
        await connection.close()


# --- SQLite ---------------------------------------------------------------------------------------

# How long SQLite itself waits for the file's lock before it says "database is locked".
_LOCK_WAIT_S = 1.0


def _on_sqlite_connect(connection: Any, _: object) -> None:
    # The driver must not begin transactions: it would do so late, and break savepoints.
    connection.isolation_level = None
    cursor = connection.cursor()
    # WAL lets others read while we write. FULL syncs the log at each commit: with NORMAL a power
    # cut could take back an order whose verdict is published and whose offset is committed. It
    # costs one sync for a whole batch of orders.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _on_sqlite_begin(connection: Connection) -> None:
    # Taking the write lock first means waiting for it here, where nothing has been done yet.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
