"""`plimsoll drill`: each container of the running stack is killed. When is it back at work?

Work is proven from outside, at the published port of the bus: requests and orders go out all the
time, and what is sent after a death must be answered, while ticks and forecasts go on. Redis is
also flushed, stopped and removed. The last line is JSON, for whoever keeps the figures.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.connection import connect, kafka_section
from cli.docker import compose, containers_of
from cli.follow import Follower
from cli.local.processes import LocalError, Say
from cli.registry import MODELS
from cli.speaker import Speaker
from libs.common.messages import (
    InferenceRequest,
    InferenceResult,
    InventoryOrder,
    InventoryVerdict,
    Message,
    OrderLine,
)
from libs.common.ports import Bus, Record
from libs.common.topics import (
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    INVENTORY_ORDERS,
    INVENTORY_VERDICTS,
    LOAD_FORECASTS,
    SCHEDULER_TICKS,
    Topic,
)
from libs.common.wire import Origin, encode, read
from libs.fleet.spec import read_models

SEND_EACH_S = 0.1
UNDER_WAY_MAX = 200  # sends that wait for a bus that is away
LOOK_EACH_S = 0.1
BACK_WITHIN_S = 90.0
SETTLE_S = 5.0
AWAY_S = 20.0
DRAIN_S = 60.0
ITEM = "drill"
FOLLOWED = (INFERENCE_RESULTS, INVENTORY_VERDICTS, SCHEDULER_TICKS, LOAD_FORECASTS)
ITSELF = "itself"
COLUMNS = {
    SCHEDULER_TICKS.name: "ticks",
    LOAD_FORECASTS.name: "forecasts",
    INFERENCE_RESULTS.name: "requests",
    INVENTORY_VERDICTS.name: "orders",
    ITSELF: ITSELF,
}


@dataclass
class Work:
    """What was asked, and what the bus has answered so far; times are monotonic seconds."""

    acknowledged: dict[str, float] = field(default_factory=dict)  # id: when it was sent
    answers: Counter[str] = field(default_factory=Counter)  # by id
    # When the newest was sent that came back, by topic; of forecasts, by their partition too.
    newest: dict[str, float] = field(default_factory=dict)
    tick_gap_s: float = 0.0  # the longest since it was last set to zero
    _ticked_s: float = field(default_factory=time.monotonic)

    def take(self, record: Record) -> None:
        """Fold one record of the followed topics."""
        now_s = time.monotonic()
        if record.topic == SCHEDULER_TICKS.name:
            self.tick_gap_s = max(self.tick_gap_s, now_s - self._ticked_s)
            self._ticked_s = now_s
        if record.topic in (SCHEDULER_TICKS.name, LOAD_FORECASTS.name):
            written_s = record.timestamp_ms / 1000 - time.time() + now_s
            self.newest[f"{record.topic}/{(record.key or b'').decode()}"] = written_s
            return
        answer = read(record)
        assert isinstance(answer, InferenceResult | InventoryVerdict)
        key = answer.request_id if isinstance(answer, InferenceResult) else answer.order_id
        self.answers[key] += 1
        if key in self.acknowledged:
            sent_s = self.acknowledged[key]
            self.newest[record.topic] = max(self.newest.get(record.topic, 0.0), sent_s)

    def proven_since(self, since_s: float) -> set[str]:
        """Return the topics on which all that was heard of before has been heard of again."""
        by_topic: dict[str, float] = {}
        for place, newest_s in self.newest.items():
            topic = place.partition("/")[0]
            by_topic[topic] = min(by_topic.get(topic, newest_s), newest_s)
        return {topic for topic, newest_s in by_topic.items() if newest_s > since_s}

    def lost(self) -> list[str]:
        """Return what was acknowledged and never answered."""
        return [key for key in self.acknowledged if not self.answers[key]]


@dataclass(frozen=True)
class Drill:
    """One fault, and what came of it."""

    what: str
    # From the fault, in s: by topic until work was proven on it, and until the container itself
    # (or Redis, with all it holds) was back. What is not there did not come in time.
    proven_s: dict[str, float]
    tick_gap_s: float

    @property
    def back_s(self) -> float | None:
        """Return when all was at work; None: not in time."""
        return max(self.proven_s.values()) if len(self.proven_s) == len(COLUMNS) else None


class Asker:
    """Sends requests and orders until stopped, and notes what the bus has acknowledged."""

    def __init__(self, bus: Bus, work: Work) -> None:
        self._bus = bus
        self._work = work
        self._stopped = asyncio.Event()
        self._run = f"drill-{time.time_ns() // 1_000_000:x}"
        self._origin = Origin("cli", "drill")
        self._model = min(read_models(MODELS), key=lambda model: model.objective.latency_ms).name

    async def ask(self) -> None:
        """Send until stopped; returns once all that was sent is acknowledged."""
        stock = InventoryOrder(
            order_id=f"{self._run}-stock",
            kind="restock",
            lines=(OrderLine(item=ITEM, quantity=1_000_000),),
        )
        await self._send(INVENTORY_ORDERS, stock.order_id, stock)
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while not self._stopped.is_set():
            number += 1
            line = OrderLine(item=ITEM, quantity=1)
            request = InferenceRequest(request_id=f"{self._run}-r{number}", model=self._model)
            order = InventoryOrder(order_id=f"{self._run}-o{number}", lines=(line,))
            if len(under_way) < UNDER_WAY_MAX:
                for send in (
                    self._send(INFERENCE_REQUESTS, request.request_id, request),
                    self._send(INVENTORY_ORDERS, order.order_id, order),
                ):
                    task = asyncio.create_task(send)
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
            await asyncio.sleep(SEND_EACH_S)
        await asyncio.gather(*under_way)

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    async def _send(self, topic: Topic, key: str, message: Message) -> None:
        sent_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        await self._bus.publish([encode(topic, key, message, self._origin, key, now_ms)])
        self._work.acknowledged[key] = sent_s


def drill(only: list[str], out: Path) -> None:
    """Run the drills on the stack that is up. Raises LocalError, SettingError."""
    console = Console()
    asyncio.run(_drill(only, out, console, Speaker(console)))


async def _drill(only: list[str], out: Path, console: Console, say: Say) -> None:
    work = Work()
    async with (
        connect(kafka_section(), "drill") as bus,
        Follower(bus, FOLLOWED, work.take) as follower,
    ):
        asker = Asker(bus, work)
        asking = asyncio.create_task(asker.ask())
        following = asyncio.create_task(_follow(follower))
        try:
            await _until_at_work(work)
            drills = [
                await _run(what, fault, back, work, say) for what, fault, back in await _plan(only)
            ]
            asker.stop()
            await asking
            deadline = time.monotonic() + DRAIN_S
            while work.lost() and time.monotonic() < deadline:
                await asyncio.sleep(LOOK_EACH_S)
        finally:
            asking.cancel()
            following.cancel()
    _print(drills, work, out, console)


async def _follow(follower: Follower) -> None:
    while True:
        await follower.read_for(0)


Fault = Callable[[], Awaitable[None]]
Back = Callable[[], Awaitable[bool]]


async def _plan(only: list[str]) -> list[tuple[str, Fault, Back]]:
    """Return every fault with how one sees that it is over."""
    plan: list[tuple[str, Fault, Back]] = []
    for container in await containers_of():
        plan.append((f"kill {container.name}", container.kill, container.is_back))

    async def stop_redis() -> None:
        await compose("stop", "-t", "0", "redis")
        await asyncio.sleep(AWAY_S)
        await compose("start", "redis")

    async def remove_redis() -> None:
        await compose("rm", "-sf", "redis")
        await asyncio.sleep(AWAY_S)
        await compose("up", "-d", "--no-deps", "redis")

    async def flush_redis() -> None:
        await compose("exec", "-T", "redis", "redis-cli", "flushall")

    plan += [
        ("flush redis", flush_redis, _redis_is_filled),
        (f"stop redis for {AWAY_S:.0f} s", stop_redis, _redis_is_filled),
        (f"remove redis for {AWAY_S:.0f} s", remove_redis, _redis_is_filled),
    ]
    return [row for row in plan if not only or any(name in row[0] for name in only)]


async def _until_back(back: Back) -> None:
    while not await back():
        await asyncio.sleep(LOOK_EACH_S)


async def _until_at_work(work: Work) -> None:
    began_s = time.monotonic()
    while len(work.proven_since(began_s)) < len(FOLLOWED):
        if time.monotonic() - began_s > BACK_WITHIN_S:
            raise LocalError("the stack is not at work: see `docker compose ps` and `make logs`")
        await asyncio.sleep(LOOK_EACH_S)


async def _redis_is_filled() -> bool:
    try:
        said = await compose("exec", "-T", "redis", "redis-cli", "hlen", "plimsoll:routing.table")
    except LocalError:
        return False
    return said.strip() == str(len(read_models(MODELS)))


async def _run(what: str, fault: Fault, back: Back, work: Work, say: Say) -> Drill:
    """Cause one fault, and wait until it is over and everything at work again."""
    await asyncio.sleep(SETTLE_S)
    work.tick_gap_s = 0.0
    await fault()
    over_s = time.monotonic()  # a thing that was away is waited for from its return on
    proven_s: dict[str, float] = {}
    returning = asyncio.create_task(_until_back(back))  # beside: asking Docker takes its time
    while len(proven_s) < len(COLUMNS) and time.monotonic() - over_s < BACK_WITHIN_S:
        await asyncio.sleep(LOOK_EACH_S)
        proven = work.proven_since(over_s) | ({ITSELF} if returning.done() else set())
        for name in proven - proven_s.keys():
            proven_s[name] = round(time.monotonic() - over_s, 1)
    returning.cancel()
    done = Drill(what, proven_s, round(work.tick_gap_s, 1))
    late = ", ".join(said for name, said in COLUMNS.items() if name not in proven_s)
    say(f"{what}: " + (f"at work after {done.back_s} s" if not late else f"NOT back: {late}"))
    return done


def _print(drills: list[Drill], work: Work, out: Path, console: Console) -> None:
    table = Table(title="Seconds from each fault until work was proven", title_justify="left")
    table.add_column("fault", no_wrap=True)
    for name in (*COLUMNS.values(), "no tick for"):
        table.add_column(name, justify="right")
    for one in drills:
        proven = [f"{one.proven_s[name]}" if name in one.proven_s else "-" for name in COLUMNS]
        table.add_row(one.what, *proven, f"{one.tick_gap_s}")
    console.print(table)
    lost = work.lost()
    found = {
        "drills": {one.what: {**one.proven_s, "tick_gap_s": one.tick_gap_s} for one in drills},
        "acknowledged": len(work.acknowledged),
        "lost": len(lost),
        "answered_twice": sum(count > 1 for count in work.answers.values()),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "drill.json").write_text(json.dumps({**found, "lost_ids": lost}, indent=2) + "\n")
    print(json.dumps(found))
