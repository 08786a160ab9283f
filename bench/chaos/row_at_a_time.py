"""The inventory as it is usually written: one message, one transaction, one publish, one commit.

It is as exact as ours where nothing fails, with the same libraries, on tables of the same shape. It
is what `python -m bench.chaos.rates` measures ours against.
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from libs.common.adapters import sql
from libs.common.adapters.sql_tables import ORDERS, STOCK


async def settle(connection: AsyncConnection, order: dict[str, object]) -> str:
    """Return the verdict of one order, within one transaction."""
    order_id, lines = order["order_id"], order["lines"]
    assert isinstance(lines, list)
    found = await connection.scalar(select(ORDERS.c.verdict).where(ORDERS.c.order_id == order_id))
    if found is not None:
        return str(found)
    verdict = "restocked" if order.get("kind") == "restock" else "deducted"
    savepoint = await connection.begin_nested()
    for line in sorted(lines, key=lambda line: line["item"]):
        item, quantity = STOCK.c.item == line["item"], line["quantity"]
        if verdict == "restocked":
            moved = await connection.execute(
                update(STOCK)
                .where(item)
                .values(stock=STOCK.c.stock + quantity, version=STOCK.c.version + 1)
            )
            if moved.rowcount == 0:
                row = {"item": line["item"], "stock": quantity, "version": 1, "reserved": 0}
                await connection.execute(insert(STOCK), row)
            continue
        moved = await connection.execute(
            update(STOCK)
            .where(item, STOCK.c.stock >= quantity)
            .values(stock=STOCK.c.stock - quantity, version=STOCK.c.version + 1)
        )
        if moved.rowcount == 0:
            verdict = "rejected"
            break
    await (savepoint.rollback() if verdict == "rejected" else savepoint.commit())
    row = {"order_id": order_id, "content": "", "verdict": verdict, "reason": ""}
    await connection.execute(insert(ORDERS), {**row, "decided_at_ms": 0})
    return verdict


async def serve(servers: str, url: str) -> None:
    """Settle orders, one after the other, until ended."""
    # SQLite's connections are set up as ours, or its transactions would not hold what they promise.
    engine: AsyncEngine = sql.connect(url) if "sqlite" in url else create_async_engine(url)
    consumer = AIOKafkaConsumer(
        "inventory.orders",
        bootstrap_servers=servers,
        group_id="row-at-a-time",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True)
    await consumer.start()
    await producer.start()
    async for record in consumer:
        order = json.loads(record.value)
        async with engine.begin() as connection:
            verdict = await settle(connection, order)
        said = json.dumps({"order_id": order["order_id"], "verdict": verdict}).encode()
        await producer.send_and_wait("inventory.verdicts", said, key=record.key)
        if verdict != "rejected":
            for line in order["lines"]:
                fact = json.dumps({**line, "order_id": order["order_id"], "status": verdict})
                key = line["item"].encode()
                await producer.send_and_wait("inventory.updated", fact.encode(), key=key)
        await consumer.commit()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
