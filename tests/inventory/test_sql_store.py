"""The SQL adapter: its schema, its patience, and which databases it refuses."""

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from libs.common.adapters import sql, sql_schema, sql_tables
from libs.common.errors import SettingError
from libs.common.messages import InventoryVerdict
from libs.common.ports import Move, Settled
from services.inventory.__main__ import MIGRATIONS


def settled(order_id):
    verdict = InventoryVerdict(order_id=order_id, verdict="deducted", decided_at_ms=1)
    return Settled("content", verdict)


async def test_the_migrations_make_the_tables_that_the_adapter_knows(world):
    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), sql_tables.TABLES)

    async with world.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_database_itself_refuses_a_stock_below_zero(world):
    async with world.engine.connect() as connection:
        with pytest.raises(IntegrityError, match="stock_never_negative"):
            await connection.execute(text("INSERT INTO stock VALUES ('bolt', -1, 1, 0)"))


async def test_sqlite_commits_reach_the_disk(sqlite_world):
    async with sqlite_world.engine.connect() as connection:
        assert await connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await connection.scalar(text("PRAGMA synchronous")) == 2, "FULL"


async def test_a_locked_database_is_waited_for(sqlite_world, monkeypatch):
    monkeypatch.setattr(sql, "_LOCK_WAIT_S", 0.0)
    sqlite_world.start()
    refused = asyncio.Event()
    event.listen(sqlite_world.engine.sync_engine, "handle_error", lambda _: refused.set())
    other = sqlite3.connect(sqlite_world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    work = asyncio.create_task(
        sqlite_world.store.transact(lambda ledger: ledger.move({"bolt": Move(1)}, may_add=True))
    )
    await refused.wait()
    other.execute("COMMIT")
    other.close()
    assert await work == {"bolt": 1}
    assert await sqlite_world.stock() == {"bolt": (1, 1)}


async def test_a_database_that_stays_locked_ends_the_service(sqlite_world, monkeypatch):
    monkeypatch.setattr(sql, "_LOCK_WAIT_S", 0.0)
    other = sqlite3.connect(sqlite_world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    engine = sql.connect(sqlite_world.section.database_url)
    with pytest.raises(OperationalError, match="locked"):
        await sql.SqlStore(engine, retry_s=0.05).unsent(1)
    await engine.dispose()
    other.close()


async def test_an_order_settled_meanwhile_is_seen_at_the_second_try(world):
    tries = []

    async def work(ledger):
        """Settle as one that has not seen the other's verdict, the first time."""
        tries.append(await ledger.open(["o"], []) if tries else {})
        if not tries[-1]:
            await ledger.settle([settled("o")], [])

    await world.store.transact(lambda ledger: ledger.settle([settled("o")], []))
    await world.store.transact(work)
    assert tries == [{}, {"o": settled("o")}]


async def test_a_place_in_the_outbox_is_never_given_twice(world):
    await world.send("a", bolt=1)
    await world.take()
    first = list(await world.store.unsent(10))
    await world.store.sent(first)
    await world.send("b", bolt=1)
    await world.take()
    assert list(await world.store.unsent(10)) == [first[-1] + 1]


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "nosuch+driver://host/db",
        "sqlite:///books.db",  # a driver that blocks
        "sqlite+aiosqlite://",  # forgets all at the end
    ],
)
def test_a_database_that_cannot_serve_is_a_setting_error(url):
    with pytest.raises(SettingError, match="database URL"):
        sql.connect(url)


async def test_another_schema_than_ours_is_refused_with_the_remedy(tmp_path):
    engine = sql.connect(f"sqlite+aiosqlite:///{tmp_path}/deep/er/new.db")
    with pytest.raises(SettingError, match=r"revision none, needed 0002; run: x"):
        await sql_schema.require_newest(engine, MIGRATIONS, "run: x")
    for _ in range(2):  # the second time there is nothing to do
        await sql_schema.upgrade(engine, MIGRATIONS)
    await sql_schema.require_newest(engine, MIGRATIONS, "run: x")
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingError, match="9999"):
        await sql_schema.upgrade(engine, MIGRATIONS)
    await engine.dispose()


def test_migrate_makes_the_database_and_says_what_is_wrong_in_one_line(tmp_path):
    def migrate(url):
        return subprocess.run(
            [sys.executable, "-m", "services.inventory", "migrate"],
            env={**os.environ, "PLIMSOLL_INVENTORY__DATABASE_URL": url},
            capture_output=True,
            text=True,
        )

    assert migrate(f"sqlite+aiosqlite:///{tmp_path}/new/books.db").returncode == 0
    with sqlite3.connect(tmp_path / "new" / "books.db") as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert tables >= {"stock", "orders", "outbox"}
    refused = migrate("sqlite:///books.db")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
