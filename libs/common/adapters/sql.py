"""The inventory's books in a SQL database: SQLite as a file, PostgreSQL by URL.

The statements are plain SQLAlchemy Core, the same for both. Those within a transaction are in
`sql_ledger.py`, the tables in `sql_tables.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, event, exists, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from libs.common.adapters.sql_ledger import SqlLedger, announcement_of
from libs.common.adapters.sql_patience import is_passing, say_when_it_lasts
from libs.common.adapters.sql_tables import ORDERS, OUTBOX, RESERVATIONS
from libs.common.errors import SettingError
from libs.common.ports import Announcement, Ledger, R
from libs.common.settings import without_password

_UNSENT = select(OUTBOX).order_by(OUTBOX.c.place).limit(bindparam("at_most"))
_SENT = delete(OUTBOX).where(OUTBOX.c.place.in_(bindparam("places", expanding=True)))
_OLD = (
    select(ORDERS.c.order_id)
    .where(
        ORDERS.c.decided_at_ms < bindparam("before_ms"),
        ~exists().where(
            RESERVATIONS.c.order_id == ORDERS.c.order_id, RESERVATIONS.c.state == "held"
        ),
    )
    .order_by(ORDERS.c.decided_at_ms)
    .limit(bindparam("at_most"))
)


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

        async def whole(connection: AsyncConnection) -> R:
            ledger = SqlLedger(connection)
            told = await work(ledger)
            await ledger.write()
            return told

        return await self._retry(whole)

    async def unsent(self, limit: int) -> dict[int, Announcement]:
        """Return what has waited longest, by place.

        Places follow the order of commits for each item: whoever writes here holds the lock of the
        item's row until the commit.
        """

        async def read(connection: AsyncConnection) -> dict[int, Announcement]:
            rows = await connection.execute(_UNSENT, {"at_most": limit})
            return {row.place: announcement_of(row) for row in rows}

        return await self._retry(read)

    async def sent(self, places: Sequence[int]) -> None:
        """Delete these rows; by their exact places, for a lower one may be committed later."""

        async def remove(connection: AsyncConnection) -> None:
            await connection.execute(_SENT, {"places": list(places)})

        await self._retry(remove)

    async def forget(self, before_ms: int, limit: int) -> int:
        """Delete orders decided before then, and how their reservations ended."""

        async def remove(connection: AsyncConnection) -> int:
            rows = await connection.execute(_OLD, {"before_ms": before_ms, "at_most": limit})
            old = [row.order_id for row in rows]
            for table in (RESERVATIONS, ORDERS):
                await connection.execute(delete(table).where(table.c.order_id.in_(old)))
            return len(old)

        return await self._retry(remove)

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
