"""`python -m bench.chaos.rates`: how many orders a second, and how soon the verdict is out.

The shipped service and one that takes a row at a time (`row_at_a_time.py`) settle the same orders,
which wait in a real Kafka, on a database of their own each, in one run. Then ours gets 500 orders
a second. Times are those of the records in Kafka. The last line is JSON.
"""

import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from rich.console import Console
from rich.table import Table

from bench.chaos.checker import percentile
from bench.chaos.world import World
from cli.local.processes import LocalError
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Outgoing
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import INVENTORY_ORDERS, INVENTORY_VERDICTS
from libs.common.wire import Origin

BASE = Path(__file__).parents[2] / ".plimsoll" / "rates"
ORDERS = {"ours": 20_000, "row at a time": 2_000}
WARM = 0.2  # of them go before the clock starts
LIVE_PER_S, LIVE_S, BEAT_S = 500, 20, 0.02
WITHIN_S = 120.0


def orders(count: int, name: str, seed: int = 1) -> list[Outgoing]:
    """Return one-line and two-line orders, three in ten of them for the hot item."""
    rng = random.Random(seed)
    items = [f"item-{number}" for number in range(100)]
    made = [_order(f"{name}-r{i}", "restock", {item: 10**7}) for i, item in enumerate(items)]
    made.append(_order(f"{name}-hot", "restock", {"hot": 10**7}))
    for number in range(count - len(made)):
        lines = {rng.choice(items): rng.randint(1, 3)}
        lines |= {"hot": 1} if rng.random() < 0.3 else {}
        made.append(_order(f"{name}-{number}", "order", lines))
    return made


async def verdicts(servers: str, count: int) -> list[tuple[bytes, int]]:
    """Return the key and time of the first `count` verdicts. Raises LocalError."""
    consumer = AIOKafkaConsumer(
        INVENTORY_VERDICTS.name, bootstrap_servers=servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: list[tuple[bytes, int]] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [(record.key, record.timestamp) for record in records]
    except TimeoutError:
        raise LocalError(f"{len(found)} of {count} verdicts within {WITHIN_S:.0f} s") from None
    finally:
        await consumer.stop()
    return found


def rate(said: Sequence[tuple[bytes, int]]) -> float:
    """Return verdicts a second, after the first have gone by."""
    times = sorted(at_ms for _, at_ms in said)
    first = int(WARM * len(times))
    return 1000 * (len(times) - 1 - first) / max(1, times[-1] - times[first])


async def measure(store: str, console: Console) -> dict[str, Any]:
    """Return the rates of both on one kind of database, and the latency of ours."""
    told: dict[str, Any] = {"store": store}
    for name, count in ORDERS.items():
        folder = BASE / store / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("inventory*"):
            old.unlink()
        async with World(store, folder, lambda _: None, instances=1) as world:
            section = KafkaSection(bootstrap_servers=world.servers)
            await kafka_admin.apply_topics(section)
            origin = Origin("rates", "outside")
            async with KafkaBus.connect(section, origin, Health(20.0)) as bus:
                await bus.publish(orders(count, "o"))
                start = world.start_services if name == "ours" else world.start_row_at_a_time
                await start()
                told[name] = round(rate(await verdicts(world.servers, count)))
                console.print(f"{store}, {name}: {told[name]} orders/s")
                if name == "ours":
                    told |= await _live(bus, world.servers, count)
                    console.print(f"{store}: verdicts {told['verdict_ms']} ms at {LIVE_PER_S}/s")
    told["ratio"] = round(told["ours"] / told["row at a time"], 1)
    return told


async def _live(bus: KafkaBus, servers: str, before: int) -> dict[str, Any]:
    """Return how long a verdict takes at a steady rate."""
    sent_ms: dict[bytes, int] = {}
    made = orders(LIVE_PER_S * LIVE_S, "live")[101:]
    beat = round(LIVE_PER_S * BEAT_S)
    began_s = time.monotonic()
    for number in range(0, len(made), beat):
        await asyncio.sleep(max(0.0, began_s + number / LIVE_PER_S - time.monotonic()))
        now_ms = time.time_ns() // 1_000_000
        sent_ms |= {message.key.encode(): now_ms for message in made[number : number + beat]}
        await bus.publish(made[number : number + beat])
    said = await verdicts(servers, before + len(made))
    late = [at_ms - sent_ms[key] for key, at_ms in said if key in sent_ms]
    return {"verdict_ms": {"p50": percentile(late, 0.5), "p99": percentile(late, 0.99)}}


def _order(order_id: str, kind: str, lines: dict[str, int]) -> Outgoing:
    listed = [{"item": item, "quantity": quantity} for item, quantity in lines.items()]
    value = json.dumps({"order_id": order_id, "kind": kind, "lines": listed}).encode()
    return Outgoing(INVENTORY_ORDERS.name, order_id, value)


async def _all(console: Console) -> list[dict[str, Any]]:
    return [await measure(store, console) for store in ("postgres", "sqlite")]


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    try:
        figures = asyncio.run(_all(console))
    except LocalError as error:
        console.print(f"plimsoll: {error}", style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    table = Table("store", "ours", "row at a time", "ratio", "verdict p50", "verdict p99")
    for row in figures:
        late = row["verdict_ms"]
        columns = (row["store"], row["ours"], row["row at a time"], row["ratio"])
        table.add_row(*map(str, columns), f"{late['p50']:.0f} ms", f"{late['p99']:.0f} ms")
    console.print(table)
    print(json.dumps({"rows": figures}))
