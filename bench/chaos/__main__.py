"""`python -m bench.chaos`: is anything oversold, lost or doubled, whatever fails?

Orders of all kinds flow through a real Kafka into the shipped inventory service on a real database,
while services, broker and database are killed, paused and restarted. A checker that shares no code
with the service reads the topics and the database. The exit status is its verdict, and the last
line is JSON.
"""

import asyncio
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.chaos import plan
from bench.chaos.checker import Watch, percentile
from bench.chaos.outside import books, follow, waiting
from bench.chaos.world import World
from cli.local.processes import LocalError, ProjectLock
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Bus, Outgoing
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import INVENTORY_ORDERS
from libs.common.wire import Origin

BASE = Path(__file__).parents[2] / ".plimsoll" / "chaos"
CHUNK = 100
IN_FLIGHT_MAX = 5000  # orders without a verdict: beyond them the sender waits, as a shop would
STARTS_WITHIN_S = 60.0
DRAINS_WITHIN_S = 120.0
SAY_EVERY_S = 5.0


class Run:
    """One run: a sender, a saboteur and a watcher side by side."""

    def __init__(self, world: World, orders: int, faults: int, seed: int, console: Console) -> None:
        self._world = world
        self._orders = orders
        self._faults = plan.faults(faults, seed, world.kinds)
        self._seed = seed
        self._console = console
        self._watch = Watch()
        self._sent = 0
        self._started_s = 0.0
        self._sending = True

    async def __call__(self) -> dict[str, Any]:
        """Return the figures, once everything has drained."""
        section = KafkaSection(bootstrap_servers=self._world.servers)
        await kafka_admin.apply_topics(section)
        await self._world.start_services()
        origin = Origin("chaos", "outside")
        async with (
            KafkaBus.connect(section, origin, Health(20.0)) as bus,
            asyncio.TaskGroup() as on,
        ):
            following = on.create_task(follow(self._watch, self._world.servers))
            saying = on.create_task(self._keep_saying())
            self._started_s = time.monotonic()
            async with asyncio.TaskGroup() as work:
                work.create_task(self._send(bus))
                work.create_task(self._sabotage())
            drained_s = await self._drain()
            took_s = time.monotonic() - self._started_s
            following.cancel()
            saying.cancel()
        return {
            "orders": self._orders,
            "faults": len(self._faults),
            **self._watch.judge(*await books(self._world.url)),
            "drained_s": round(drained_s, 1),
            "orders_per_s": round(self._orders / took_s),
            "verdict_ms": {
                "p50": percentile(self._watch.latency_ms, 0.50),
                "p99": percentile(self._watch.latency_ms, 0.99),
            },
            "seed": self._seed,
        }

    def show_faults(self) -> None:
        """Print what was wrong, the first of each kind."""
        for kind, found in self._watch.faults.items():
            for said in found[:5]:
                self._console.print(f"[red]{kind}[/]: {said}")

    async def _send(self, bus: Bus) -> None:
        chunk: list[Outgoing] = []
        for sent in plan.orders(self._orders, self._seed):
            chunk.append(Outgoing(INVENTORY_ORDERS.name, sent.key, sent.value))
            if len(chunk) == CHUNK:
                await self._send_chunk(bus, chunk)
                chunk = []
        await self._send_chunk(bus, chunk)
        self._sending = False

    async def _send_chunk(self, bus: Bus, chunk: list[Outgoing]) -> None:
        while self._watch.unanswered > IN_FLIGHT_MAX:
            await asyncio.sleep(0.01)
        await bus.publish(chunk)
        self._sent += len(chunk)
        if not self._watch.answers:
            await self._first_answer()

    async def _first_answer(self) -> None:
        """Wait until the services are at work: how long they take to start is no matter here."""
        while not self._watch.answers:
            await asyncio.sleep(0.05)
            if time.monotonic() - self._started_s > STARTS_WITHIN_S:
                raise LocalError(f"no verdict so far. Services say:\n{self._world.last_words()}")
        self._started_s = time.monotonic()

    async def _sabotage(self) -> None:
        """Spread the faults evenly over the orders."""
        for number, kind in enumerate(self._faults):
            due = (number + 0.5) * self._orders / len(self._faults)
            while self._sending and self._sent < due:
                await asyncio.sleep(0.02)
            said = await self._world.fail(kind, number)
            self._say(f"fault {number + 1} of {len(self._faults)}: {said}")

    async def _drain(self) -> float:
        """Wait until all has its verdict and the outbox is empty; returns how long that took."""
        began_s = time.monotonic()
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.1)
            drained = self._watch.unanswered == 0 and len(self._watch.orders) >= self._orders
            quiet = quiet + 1 if drained and await self._outbox_empty() else 0
            if time.monotonic() - began_s > DRAINS_WITHIN_S:
                self._say(f"not drained: {self._watch.unanswered} orders have no verdict")
                self._say(self._world.last_words())
                break
        return time.monotonic() - began_s

    async def _outbox_empty(self) -> bool:
        try:
            return await waiting(self._world.url) == 0
        except OSError:
            return False

    async def _keep_saying(self) -> None:
        while True:
            await asyncio.sleep(SAY_EVERY_S)
            watch = self._watch
            self._say(
                f"{self._sent} sent, {len(watch.answers)} answered, {watch.unanswered} waiting,"
                f" {watch.dead} dead letters"
            )

    def _say(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._started_s:6.1f} s  {line}", highlight=False)


def main(
    orders: Annotated[int, typer.Option(min=1, help="distinct orders to send")] = 100_000,
    faults: Annotated[int, typer.Option(min=0, help="faults, spread over them")] = 100,
    seed: Annotated[int, typer.Option(help="of the orders and of the faults")] = 1,
    store: Annotated[str, typer.Option(help="postgres or sqlite")] = "postgres",
) -> None:
    """Send orders while everything fails, and judge what became of them."""
    if store not in ("postgres", "sqlite"):
        raise typer.BadParameter(f"{store}: postgres or sqlite is wanted")
    console = Console()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell had it ignored
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that the broker is away, we know
    try:
        figures = asyncio.run(_run(orders, faults, seed, store, console))
    except LocalError as error:
        console.print(f"plimsoll chaos: {error}", style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    wrong = sum(figures[kind] for kind in ("oversold", "lost", "doubled", "drift"))
    console.print("[green]exact[/]" if wrong == 0 else f"[red]{wrong} wrong[/]")
    print(json.dumps(figures))
    sys.exit(wrong > 0)


async def _run(orders: int, faults: int, seed: int, store: str, console: Console) -> dict[str, Any]:
    folder = BASE / store
    folder.mkdir(parents=True, exist_ok=True)
    with ProjectLock(folder / "chaos.lock", "a chaos run"):
        for old in folder.glob("inventory*"):
            old.unlink()
        async with World(store, folder, console.print) as world:
            run = Run(world, orders, faults, seed, console)
            try:
                figures = await run()
            except ExceptionGroup as group:
                for error in group.exceptions:  # of one that a person can mend, the words alone
                    if isinstance(error, LocalError):
                        raise error from None
                raise
            run.show_faults()
            return figures


if __name__ == "__main__":
    typer.run(main)
