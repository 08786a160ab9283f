"""How the checker reads: the topics with a consumer of its own, the database with plain SQL."""

import sqlite3
from collections.abc import Mapping

import asyncpg
from aiokafka import AIOKafkaConsumer

from bench.chaos.checker import TOPICS, Books, Watch

STOCK = "SELECT item, stock, reserved, version FROM stock"
HELD = "SELECT item, sum(quantity) FROM reservations WHERE state = 'held' GROUP BY item"
WAITING = "SELECT count(*) FROM outbox"


async def follow(watch: Watch, servers: str) -> None:
    """Give every record of the topics to `watch`, from the first on, until cancelled."""
    consumer = AIOKafkaConsumer(
        *TOPICS,
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        while True:
            found = await consumer.getmany(timeout_ms=500)
            for place, records in found.items():
                for record in records:
                    headers = dict(record.headers)
                    event_id = headers.get("ce_id", b"").decode()
                    watch.take(place.topic, record.value, event_id, record.timestamp)
    finally:
        await consumer.stop()


async def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of one SQL statement."""
    backend, _, where = url.partition("://")
    if backend.startswith("sqlite"):
        connection = sqlite3.connect(f"file:{where.removeprefix('/')}?mode=ro", uri=True)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    server = await asyncpg.connect(f"postgresql://{where}")
    try:
        return [tuple(row) for row in await server.fetch(statement)]
    finally:
        await server.close()


async def books(url: str) -> tuple[Mapping[str, Books], Mapping[str, int]]:
    """Return the stock by item, and what is still held of it."""
    rows = await query(url, STOCK)
    held = await query(url, HELD)
    return (
        {str(row[0]): Books(*(int(str(value)) for value in row[1:])) for row in rows},
        {str(item): int(str(quantity)) for item, quantity in held},
    )


async def waiting(url: str) -> int:
    """Return how many messages wait in the outbox."""
    ((count,),) = await query(url, WAITING)
    return int(str(count))
