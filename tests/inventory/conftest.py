"""A world for the inventory: the shipped app on a database and a bus that outlive it.

Each test runs twice, on a SQLite file and in a database of a real PostgreSQL.
"""

import asyncio
import itertools
import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, func, select, text

from libs.common.adapters import sql, sql_schema, sql_tables
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.ports import Outgoing
from libs.common.topics import DEAD_LETTERS, INVENTORY_ORDERS, INVENTORY_UPDATED, INVENTORY_VERDICTS
from libs.common.wire import Origin
from services.inventory.__main__ import MIGRATIONS
from services.inventory.app import GROUP, Inventory
from services.inventory.settings import InventorySection

# What a unit of each status does to the stock and to what is reserved.
MOVES = {
    "deducted": (-1, 0),
    "reserved": (-1, 1),
    "released": (1, -1),
    "restocked": (1, 0),
    "corrected": (1, 0),
    "fulfilled": (0, -1),
}


def order_of(order_id, kind, more, quantities):
    lines = [{"item": item, "quantity": quantity} for item, quantity in quantities.items()]
    return json.dumps({"order_id": order_id, "kind": kind, "lines": lines, **(more or {})}).encode()


class Crash(Exception):  # noqa: N818
    """The process is gone."""


class Faults:
    """Counts every step that could be the last, and makes one of them the last."""

    def __init__(self):
        self.steps = []
        self.crash_after = None  # so many steps
        self.crash_at = None  # the next step of this name

    def step(self, name):
        self.steps.append(name)
        if name == self.crash_at:
            self.crash_at = None
            raise Crash(name)
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                raise Crash(name)


class FaultyBus(MemoryBus):
    """Messages go out one by one, and a crash may come between any two."""

    def __init__(self, clock, faults):
        super().__init__(clock)
        self.faults = faults

    async def publish(self, messages):
        for message in messages:
            self.faults.step(f"before publishing to {message.topic}")
            await super().publish([message])
        self.faults.step("published")

    @asynccontextmanager
    async def subscribe(self, topics, group):
        async with super().subscribe(topics, group) as reader:
            commit = reader.commit

            async def faulty_commit(next_offsets):
                self.faults.step("before the offset commit")
                await commit(next_offsets)
                self.faults.step("after the offset commit")

            reader.commit = faulty_commit
            yield reader


class World:
    def __init__(self, url, **settings):
        self.faults = Faults()
        self.clock = ManualClock(1_000_000)
        self.bus = FaultyBus(self.clock, self.faults)
        self.section = InventorySection(**{"database_url": url, "database_retry_s": 5, **settings})
        self.start()

    @property
    def path(self):
        """The file of a SQLite database."""
        return self.engine.url.database

    def start(self):
        """Start a new process on what the last one left."""
        self.engine = sql.connect(self.section.database_url)
        # Each statement may be the last, and so may be each commit, which is none.
        sync = self.engine.sync_engine
        event.listen(sync, "before_cursor_execute", lambda *call: self.faults.step(call[2]))
        event.listen(sync, "commit", lambda _: self.faults.step("before COMMIT"))
        self.store = sql.SqlStore(self.engine, self.section.database_retry_s)
        origin = Origin("inventory", "test")
        self.app = Inventory(self.store, self.bus, self.clock, origin, self.section)

    async def restart(self):
        await self.engine.dispose()
        self.start()

    async def send_raw(self, key, value):
        message = Outgoing(INVENTORY_ORDERS.name, key, value)
        await MemoryBus.publish(self.bus, [message])  # an app sends it: its crashes are its own

    async def send(self, order_id, kind="order", *, key=None, more=None, **quantities):
        await self.send_raw(key or order_id, order_of(order_id, kind, more, quantities))

    async def take(self):
        async with self.bus.subscribe([INVENTORY_ORDERS], GROUP) as reader:
            await self.app.take(reader, 0)

    async def drain(self):
        """Settle and publish all there is."""
        await self.take()
        while await self.app.relay():
            pass

    async def survive(self, drain=None):
        """Drain, starting anew after each crash."""
        try:
            await (self.drain() if drain is None else drain(self))
        except Crash:
            await self.restart()
            await self.survive(drain)

    def verdicts(self):
        return [json.loads(r.value) for r in self.bus.records(INVENTORY_VERDICTS)]

    def verdict(self, order_id):
        """The one verdict of an order that was sent once."""
        (found,) = [v for v in self.verdicts() if v["order_id"] == order_id]
        return found

    def distinct(self, topic):
        """What a reader sees that drops the event ids it has seen, by id, in order."""
        seen = {}
        for record in self.bus.records(topic):
            seen.setdefault(record.headers["ce_id"], json.loads(record.value))
        return seen

    def dead(self):
        return [r.headers["dead-reason"].decode() for r in self.bus.records(DEAD_LETTERS)]

    async def stock(self):
        """(stock, version) by item."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(sql_tables.STOCK))
            return {row.item: (row.stock, row.version) for row in rows}

    async def books(self):
        """(stock, reserved, version) by item."""
        async with self.engine.connect() as connection:
            rows = await connection.execute(select(sql_tables.STOCK))
            return {row.item: (row.stock, row.reserved, row.version) for row in rows}

    async def held(self):
        """(item, quantity) of each line that is reserved."""
        lines = sql_tables.RESERVATIONS
        async with self.engine.connect() as connection:
            rows = await connection.execute(
                select(lines.c.item, lines.c.quantity).where(lines.c.state == "held")
            )
            return [(row.item, row.quantity) for row in rows]

    async def waiting(self):
        async with self.engine.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(sql_tables.OUTBOX))

    async def require_unlocked(self):
        """Fail where some transaction still holds a lock."""
        other = sql.connect(self.section.database_url)
        async with other.begin() as connection:  # SQLite's own way to begin takes its only lock
            if other.dialect.name == "postgresql":
                await connection.execute(text("LOCK stock, orders, outbox, reservations NOWAIT"))
        await other.dispose()

    async def check(self):
        """The books balance, and the bus tells the same story as the database."""
        assert await self.waiting() == 0
        folded = {}
        answers = {}
        for verdict in self.distinct(INVENTORY_VERDICTS).values():
            answers.setdefault(verdict["order_id"], []).append(verdict)
        moved = {}
        for update in self.distinct(INVENTORY_UPDATED).values():
            stock, reserved, version = folded.get(update["item"], (0, 0, 0))
            of_stock, of_reserved = MOVES[update["status"]]
            stock += of_stock * update["quantity"]
            reserved += of_reserved * update["quantity"]
            assert stock >= 0, update
            assert reserved >= 0, update
            assert update["version"] == version + 1, "the order of events is that of the commits"
            folded[update["item"]] = (stock, reserved, update["version"])
            moved.setdefault(update["order_id"], []).append(update["status"])
        assert folded == await self.books()
        held = {}
        for item, quantity in await self.held():
            held[item] = held.get(item, 0) + quantity
        assert held == {item: of[1] for item, of in folded.items() if of[1]}
        for order_id, (first, *others) in answers.items():
            said = moved.get(order_id, ["rejected"])[0]
            assert {"fulfilled": "deducted"}.get(said, said) == first["verdict"]
            assert all("another order" in other["reason"] for other in others)
        # Whatever was said more than once was said in the same words.
        for topic in (INVENTORY_VERDICTS, INVENTORY_UPDATED):
            first = self.distinct(topic)
            for record in self.bus.records(topic):
                said, before = json.loads(record.value), first[record.headers["ce_id"]]
                assert {**said, "decided_at_ms": 0} == {**before, "decided_at_ms": 0}
        return answers


async def migrate(url):
    engine = sql.connect(url)
    await sql_schema.upgrade(engine, MIGRATIONS)
    await engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    """A SQLite file with the newest schema, made once."""
    path = tmp_path_factory.mktemp("inventory") / "template.db"
    asyncio.run(migrate(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_books(postgres) -> str:
    """The URL of a PostgreSQL database with the newest schema, made once."""
    url = postgres.create("books")
    asyncio.run(migrate(url))
    return url


@pytest.fixture
def new_sqlite(sqlite_template, tmp_path):
    """Makes databases with the newest schema, each a file."""
    numbers = itertools.count()

    def make():
        path = tmp_path / f"{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return f"sqlite+aiosqlite:///{path}"

    return make


@pytest.fixture
def new_postgres(postgres, postgres_books):
    """Empties the one database each time: a new one for each step of a crash test is slow."""

    def make():
        postgres.run("TRUNCATE stock, orders, outbox, reservations RESTART IDENTITY", "books")
        return postgres_books

    return make


async def worlds(new_database):
    made = []

    def make(**settings):
        made.append(World(new_database(), **settings))
        return made[-1]

    yield make
    for world in made:
        await world.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def new_database(request):
    """Makes databases with the newest schema, of each kind in turn."""
    return request.getfixturevalue(f"new_{request.param}")


@pytest.fixture
async def make_world(new_database):
    """Makes worlds, each on a database of its own."""
    async for make in worlds(new_database):
        yield make


@pytest.fixture
def world(make_world):
    return make_world()


@pytest.fixture
async def sqlite_world(new_sqlite):
    async for make in worlds(new_sqlite):
        yield make()


@pytest.fixture
async def make_postgres_world(new_postgres):
    async for make in worlds(new_postgres):
        yield make
