"""What a server brings that a file does not: several instances, restarts, shut doors."""

import asyncio
import os
import random
import subprocess
import sys
import time

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from libs.common.adapters import sql
from libs.common.errors import SettingError
from libs.common.ports import Move, Shortage
from libs.common.topics import INVENTORY_UPDATED, INVENTORY_VERDICTS
from libs.common.wire import Origin
from services.inventory.__main__ import migrate
from services.inventory.app import Inventory
from services.inventory.settings import InventorySection

ITEMS = [f"item-{n}" for n in range(8)]


@pytest.fixture
def world(make_postgres_world):
    return make_postgres_world()


@pytest.fixture
async def others(world):
    """Makes further stores on the world's database, as other processes have."""
    engines = []

    def make(retry_s=10.0):
        engines.append(sql.connect(world.section.database_url, statement_s=10))
        return sql.SqlStore(engines[-1], retry_s)

    yield make
    for engine in engines:
        await engine.dispose()


async def stock_up(store, items, quantity):
    async def work(ledger):
        await ledger.open([], items)
        return await ledger.move(dict.fromkeys(items, Move(quantity)), may_add=True)

    await store.transact(work)


async def deadlocks(world):
    """How many there have been in the database so far."""
    async with world.engine.connect() as connection:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return await connection.scalar(text(query))


async def test_instances_that_want_the_same_items_in_any_order_never_block_each_other(
    world, others
):
    before = await deadlocks(world)
    await stock_up(world.store, ITEMS, 1000)
    taken = dict.fromkeys(ITEMS, 0)

    async def instance(store, rng):
        for _ in range(20):
            wanted = rng.sample(ITEMS, len(ITEMS))

            async def work(ledger, wanted=wanted):
                await ledger.open([], wanted)
                for item in wanted:  # one order after the other, as they came
                    assert not isinstance(await ledger.move({item: Move(-1)}), Shortage)

            await store.transact(work)
            for item in wanted:
                taken[item] += 1

    await asyncio.gather(*(instance(others(), random.Random(seed)) for seed in range(4)))
    assert {item: 1000 - stock for item, (stock, _) in (await world.stock()).items()} == taken
    assert set(taken.values()) == {80}
    assert await deadlocks(world) == before


async def test_a_deadlock_is_tried_again(world, others):
    await stock_up(world.store, ITEMS, 1000)
    both = asyncio.Barrier(2)
    tries = []

    async def instance(store, first, second):
        async def work(ledger):  # without `open`, as nobody should
            tries.append(first)
            await ledger.move({first: Move(-1)})
            if len(tries) <= 2:
                await both.wait()
            await ledger.move({second: Move(-1)})

        await store.transact(work)

    a, b, *_ = ITEMS
    await asyncio.gather(instance(others(), a, b), instance(others(), b, a))
    assert len(tries) == 3
    stock = await world.stock()
    assert (stock[a][0], stock[b][0]) == (998, 998)


async def test_new_items_may_be_stocked_by_all_at_once(world, others):
    async def instance(store, rng):
        await stock_up(store, rng.sample(ITEMS, len(ITEMS)), 1)

    await asyncio.gather(*(instance(others(), random.Random(seed)) for seed in range(4)))
    assert await world.stock() == dict.fromkeys(ITEMS, (4, 4))


async def test_two_instances_that_were_given_the_same_orders_settle_each_once(world, others):
    twin = Inventory(others(), world.bus, world.clock, Origin("inventory", "b"), world.section)
    for item in ITEMS:
        await world.send(f"r-{item}", "restock", **{item: 20})
    for n in range(100):
        await world.send(f"o{n}", **dict.fromkeys(random.Random(n).sample(ITEMS, 3), 1))
    serving = [asyncio.create_task(app.serve()) for app in (world.app, twin)]
    async with asyncio.timeout(30):
        while await world.waiting() or len(world.distinct(INVENTORY_VERDICTS)) < 108:
            await asyncio.sleep(0.05)
    for task in serving:
        task.cancel()
    await asyncio.wait(serving)
    answers = await world.check()
    assert len(answers) == 108
    assert all(len(said) == 1 for said in answers.values())


async def test_what_several_wrote_is_published_once_and_in_order(world, others):
    """Two relays look at one outbox, and their turns keep each from saying what the other says."""
    twin = Inventory(others(), world.bus, world.clock, Origin("inventory", "b"), world.section)
    for n in range(60):
        await world.send(f"r{n}", "restock", bolt=1)
    await world.take()

    async def relay(app):
        while await app.relay():
            pass

    await asyncio.gather(relay(world.app), relay(twin), relay(world.app), relay(twin))
    await world.check()
    for topic in (INVENTORY_VERDICTS, INVENTORY_UPDATED):
        assert len(world.bus.records(topic)) == 60


async def test_a_turn_is_had_by_one_alone_and_taken_from_one_that_hangs(world, others, monkeypatch):
    store, other = others(), others()
    inside = []

    async def enter(which, stay):
        async with which.turn():
            inside.append(which)
            await stay.wait()

    leave = asyncio.Event()
    first = asyncio.create_task(enter(store, leave))
    while not inside:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(enter(other, leave))
    await asyncio.sleep(0.3)
    assert inside == [store]
    leave.set()
    await asyncio.gather(first, second)
    assert inside == [store, other]

    monkeypatch.setattr(sql, "_TURN_S", 1)
    async with store.turn(), asyncio.timeout(3), other.turn():
        pass


async def test_a_leftover_of_an_instance_that_ended_is_published_by_the_other(world, others):
    twin = Inventory(others(), world.bus, world.clock, Origin("inventory", "b"), world.section)
    serving = asyncio.create_task(twin._relay())
    await asyncio.sleep(0.1)  # it has found nothing, and waits for its own orders
    await world.send("r", "restock", bolt=1)
    await world.take()
    async with asyncio.timeout(5):
        while await world.waiting():
            await asyncio.sleep(0.05)
    serving.cancel()
    await world.check()


async def test_a_server_that_restarts_is_waited_for_and_nothing_is_lost_or_doubled(
    world, others, postgres
):
    store = others()
    await stock_up(store, ["bolt"], 10_000)
    done = 0
    stop = asyncio.Event()

    async def deduct():
        nonlocal done
        while not stop.is_set():
            order_id = f"o{done}"
            await world.send(order_id, bolt=1)
            await world.take()
            await world.app.relay()
            done += 1

    working = asyncio.create_task(deduct())
    for _ in range(7):  # more often than there are connections, none of which may be lost for good
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)
    before = done
    await asyncio.sleep(0.2)
    stop.set()
    await working
    assert done > before
    while await world.app.relay():
        pass
    assert await world.stock() == {"bolt": (10_000 - done, done + 1)}
    assert len(world.distinct(INVENTORY_UPDATED)) == done


async def test_a_server_that_stays_away_ends_the_service(world, others, postgres):
    store = others(retry_s=0.5)
    await stock_up(store, ["bolt"], 1)
    await asyncio.to_thread(postgres.stop)
    try:
        started = time.monotonic()
        with pytest.raises((OSError, DBAPIError)):
            await store.unsent(1)
        assert time.monotonic() - started < 5
    finally:
        await asyncio.to_thread(postgres.start)
    assert await store.unsent(1) == {}, "and the next one connects"


# --- migrate --------------------------------------------------------------------------------------


def migrating(url, start_s=20.0):
    return subprocess.Popen(
        [sys.executable, "-m", "services.inventory", "migrate"],
        env={
            **os.environ,
            "PLIMSOLL_INVENTORY__DATABASE_URL": url,
            "PLIMSOLL_INVENTORY__DATABASE_START_S": str(start_s),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def tables_of(url):
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


@pytest.fixture
def empty(postgres):
    yield postgres.create("empty")
    postgres.drop("empty")


def test_two_that_migrate_at_once_both_succeed(empty):
    both = [migrating(empty), migrating(empty)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert asyncio.run(tables_of(empty)) == {
        "stock",
        "orders",
        "outbox",
        "reservations",
        "alembic_version",
    }


def test_migrate_waits_for_a_server_that_is_not_up_yet_and_says_so(empty, postgres):
    postgres.stop()
    process = migrating(empty)
    assert "waiting for the database" in process.stdout.readline()
    assert process.poll() is None
    postgres.start()
    _, wrong = process.communicate(timeout=60)
    assert (process.returncode, wrong) == (0, "")


async def test_what_shuts_the_door_is_one_line_without_the_password(empty, postgres):
    address = f"127.0.0.1:{postgres.port}"
    for url, said in [
        (postgres.url("empty", password="hunter2"), "password authentication failed"),
        (postgres.url("nothing"), 'database "nothing" does not exist'),
        ("postgresql+asyncpg://me:hunter2@nosuch.invalid/db", "not there within 0 s"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:1/db", "not there within 0 s"),
        (f"postgresql+asyncpg://me:hunter2@{address}/db?nonsense=1", "nonsense"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:99999/db", "0-65535"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:port/db", "database URL"),
        ("postgresql://me:hunter2@127.0.0.1/db", "postgresql+asyncpg://"),
    ]:
        section = InventorySection(database_url=url, database_start_s=0)
        with pytest.raises(SettingError) as caught:
            await migrate(section)
        line = str(caught.value)
        assert said in line
        assert "\n" not in line
        assert "hunter2" not in line
        assert "secret" not in line


def test_a_wrong_password_is_told_to_a_person_at_once(empty, postgres):
    process = migrating(postgres.url("empty", password="hunter2"))
    out, wrong = process.communicate(timeout=60)
    assert (process.returncode, out, wrong.count("\n")) == (2, "", 1)
    assert wrong.startswith("plimsoll inventory: database postgresql+asyncpg://plimsoll:***@")
