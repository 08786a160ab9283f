"""SQLite under the shipped statements, one writer at a time, in memory or as a file.

It stands where SQLAlchemy's asyncio engine stands, without that one's threads. The server of a
killed process takes its transaction back; a reply may be lost before the commit and after it.
"""

import asyncio
from pathlib import Path

from sqlalchemy import create_engine, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from libs.common.adapters import sql
from libs.common.adapters.sql_tables import ORDERS, OUTBOX, RESERVATIONS, STOCK, TABLES

LOCK_WAIT_S = 1.0


class Database:
    """The books of all processes."""

    def __init__(self, path: Path | None = None) -> None:
        self.in_memory = path is None
        pool = {"poolclass": StaticPool} if self.in_memory else {}
        self.engine = create_engine(f"sqlite:///{path or ''}", **pool)
        event.listen(self.engine, "connect", sql._on_sqlite_connect)
        event.listen(self.engine, "begin", sql._on_sqlite_begin)
        TABLES.create_all(self.engine)
        self.holder: Transaction | None = None
        self.waiting: list[asyncio.Future] = []

    def clear(self) -> None:
        """Begin with empty books."""
        self.holder = None
        self.waiting.clear()
        with self.engine.begin() as connection:
            for table in TABLES.tables.values():
                connection.execute(table.delete())

    def rows(self, table):
        """Return what is on disk; whoever is within a transaction has not got there yet."""
        assert self.holder is None or not self.in_memory
        with self.engine.connect() as connection:
            return connection.execute(select(table)).all()

    def stock(self):
        return {row.item: (row.stock, row.reserved, row.version) for row in self.rows(STOCK)}

    def held(self):
        return [row for row in self.rows(RESERVATIONS) if row.state == "held"]

    def orders(self):
        return {row.order_id: row for row in self.rows(ORDERS)}

    def outbox(self):
        return self.rows(OUTBOX)

    def abort(self, process) -> None:
        """Take back what a process has not committed."""
        if self.holder is not None and self.holder.process is process:
            if not self.in_memory:
                self.holder.lose()  # what is in the file then is SQLite's own affair
            self.holder.undo()

    def let_go(self) -> None:
        self.holder = None
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Engine:
    """The engine as one process has it."""

    def __init__(self, database, process, faults) -> None:
        self.database, self.process, self.faults = database, process, faults
        self.dialect = database.engine.dialect

    def begin(self):
        return Transaction(self)


def _trouble(what: str) -> OperationalError:
    return OperationalError(what, {}, Exception(what))


class Transaction:
    """A transaction, and the connection it is on."""

    def __init__(self, engine: Engine) -> None:
        self.database, self.process, self.faults = engine.database, engine.process, engine.faults
        self.dialect = engine.dialect

    async def __aenter__(self):
        await self.faults.hop("begin")
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + LOCK_WAIT_S
        while self.database.holder is not None:
            freed = loop.create_future()
            self.database.waiting.append(freed)
            try:
                async with asyncio.timeout_at(give_up_s):
                    await freed
            except TimeoutError:
                raise _trouble("database is locked") from None
        self.database.holder = self
        self._sync = self.database.engine.connect()
        self._open = self._sync.begin()
        self._wrote = False
        return self

    async def __aexit__(self, kind, error, trace):
        if not self.process.alive or self.database.holder is not self:
            return
        if error is not None:
            self.undo()
            return
        try:
            await self.faults.hop("commit")
            self.faults.may_raise("commit fails", _trouble)
        except BaseException:
            self.undo()
            raise
        self._open.commit()
        self._sync.close()
        self.database.let_go()
        if self._wrote:
            self.faults.committed()
        await self.faults.hop("committed")
        self.faults.may_raise("commit's reply is lost", _trouble)

    def lose(self) -> None:
        # A cursor that a dead coroutine still has would keep the file locked beyond the close.
        self._sync.connection.driver_connection.rollback()
        self._sync.connection.driver_connection.close()
        self._sync.invalidate()

    def undo(self) -> None:
        self._sync.close()  # which rolls back
        self.database.let_go()

    async def execute(self, statement, parameters=None):
        await self.faults.hop("statement")
        self.faults.may_raise("statement fails", _trouble)
        self._wrote |= statement.is_dml
        return self._sync.execute(statement, parameters)

    async def scalar(self, statement, parameters=None):
        return (await self.execute(statement, parameters)).scalar()

    async def begin_nested(self):
        await self.faults.hop("savepoint")
        return Savepoint(self._sync.begin_nested())


class Savepoint:
    def __init__(self, sync) -> None:
        self._sync = sync

    async def rollback(self):
        self._sync.rollback()

    async def commit(self):
        self._sync.commit()
