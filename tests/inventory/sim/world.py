"""The world of one seed: processes that die, pause and come again, on one bus and one database."""

import asyncio
import contextvars
import random

from sqlalchemy.exc import DBAPIError

from libs.common.ports import Outgoing
from libs.common.topics import INVENTORY_ORDERS
from libs.common.wire import Origin
from services.inventory.settings import InventorySection
from tests.inventory.sim import check, story
from tests.inventory.sim.bugs import Shipped
from tests.inventory.sim.bus import Client, SimBus
from tests.inventory.sim.database import Database, Engine
from tests.inventory.sim.loop import PROCESS, Process, SimLoop

START_MS = 1_700_000_000_000
TROUBLE_MS = 4_000  # orders and faults come within it; then all are well
DRAIN_S = 30.0
SESSION_S = 1.0  # a member that is not heard of for so long is out of its group

# The chance of each fault at each place where it may come; each seed draws its own mix.
FAULTS = {
    "kill": 0.01,
    "pause": 0.006,
    "rebalance": 0.01,
    "statement fails": 0.02,
    "commit fails": 0.04,
    "commit's reply is lost": 0.04,
    "publish fails": 0.04,
    "acknowledgement is lost": 0.04,
    "offset commit is lost": 0.1,
}


class Killed(BaseException):
    """The process is gone; nothing may catch this."""


class Faults:
    """What one process meets."""

    def __init__(self, world: "World", process: Process) -> None:
        self.world, self.process, self.rng = world, process, world.rng

    async def hop(self, what: str) -> None:
        """Be under way for a moment, in which anything may happen."""
        world, process = self.world, self.process
        if not process.alive:
            raise Killed
        world.note(process.name, what)
        if self.draw("kill"):
            world.kill(process)
        elif self.draw("pause"):
            world.pause(process)
        elif self.draw("rebalance"):
            world.bus.rebalance()
        await asyncio.sleep(self.rng.choice((0, 0, 0, 0.001, 0.003, 0.02)) if world.slow else 0)
        if not process.alive:
            raise Killed

    def draw(self, fault: str) -> bool:
        """Return whether this fault comes now."""
        if self.rng.random() >= self.world.mix.get(fault, 0.0):
            return False
        self.world.note(self.process.name, f"FAULT {fault}")
        return True

    def may_raise(self, fault: str, error) -> None:
        if self.draw(fault):
            raise error(fault)

    def committed(self) -> None:
        self.world.watch.committed(self.world.database)


class Clock:
    """The clock of one machine."""

    def __init__(self, world: "World", process: Process) -> None:
        self.world, self.process = world, process

    def now_ms(self) -> int:
        return self.world.now_ms() + self.process.skew_ms

    async def sleep_until_ms(self, at_ms: float) -> None:
        await asyncio.sleep(max(0.0, (at_ms - self.now_ms()) / 1000))


class World:
    """Everything of one seed."""

    def __init__(
        self,
        seed,
        database,
        *,
        parts=None,
        sent=None,
        without=(),
        instances=None,
        trouble_ms=TROUBLE_MS,
    ):
        self.rng = random.Random(seed)
        random.seed(seed)  # the waits between retries are drawn from there
        self.parts = parts or Shipped()
        self.trace: list[str] = []
        self.watch = check.Watch()
        self.trouble_ms = trouble_ms
        self.database = database
        database.clear()
        self.mix = {k: p * self.rng.choice((0, 1, 1, 3)) for k, p in FAULTS.items()}
        self.slow = self.rng.random() < 0.7
        self.count = self.rng.randint(1, 3)
        self.batch_bytes = self.rng.choice((1, 300, 65536))
        told = story.tell(self.rng, self.rng.randint(8, 30), trouble_ms)
        self.sent = told if sent is None else sent
        for fault in without:
            self.mix.pop(fault)
        if instances is not None:
            self.count, self.slow = instances, False
        self.loop = SimLoop(self.rng)
        self.loop.on_crash = self.kill
        self.bus = SimBus(self)
        self.processes: list[Process] = []

    def now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1000)

    def note(self, who: str, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.3f} {who:4} {what}")

    def said(self, record) -> None:
        """Look at what has just come onto the bus."""
        self.note("bus", f"{record.topic}/{record.partition} {record.key.decode()}")
        self.watch.said(record)

    def run(self) -> list[str]:
        """Live through all of it; returns what was wrong, which is nothing if all is well."""
        asyncio.set_event_loop(None)
        try:
            self.loop.run_until_complete(self._live())
        finally:
            for process in self.processes:
                process.alive = False
                self.database.abort(process)
            self.loop.end()
        if not self.watch.wrong:
            self.watch.in_the_end(self)
        return self.watch.wrong

    def start(self) -> None:
        process = Process(f"i{len(self.processes)}", self.rng.choice((0, 0, 7, 120)))
        self.processes.append(process)
        self.note(process.name, "starts")
        contextvars.copy_context().run(self._start_within, process)

    def _start_within(self, process: Process) -> None:
        PROCESS.set(process)
        serving = self.loop.create_task(self._serve(process))
        serving.add_done_callback(
            lambda done: self._ended(process, done), context=contextvars.Context()
        )

    async def _serve(self, process: Process) -> None:
        faults = Faults(self, process)
        store = self.parts.SqlStore(Engine(self.database, process, faults), 15.0)
        section = InventorySection(batch_bytes=self.batch_bytes)
        bus, clock = Client(self.bus, faults), Clock(self, process)
        app = self.parts.Inventory(store, bus, clock, Origin("inventory", "sim"), section)
        await app.serve()

    def _ended(self, process: Process, done) -> None:
        if not process.alive:
            return
        error = done.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, ConnectionError | DBAPIError):
            self.watch.wrong.append(f"{process.name} ended by {error!r}")
        self.kill(process)

    def kill(self, process: Process) -> None:
        process.alive = False
        self.note(process.name, "is gone")
        self.database.abort(process)
        later = self.rng.choice((0.01, 0.3, 1.5))
        nobody = contextvars.Context()
        self.loop.call_later(later, self.start, context=nobody)
        self.loop.call_later(self.rng.choice((0.0, SESSION_S)), self.bus.rebalance, context=nobody)

    def pause(self, process: Process) -> None:
        process.paused = True
        nobody = contextvars.Context()
        self.loop.call_later(SESSION_S, self._miss, process, context=nobody)
        until_s = self.rng.choice((0.2, 1.4, 3.0))
        self.loop.call_later(until_s, self._resume, process, context=nobody)

    def _miss(self, process: Process) -> None:
        if process.paused:
            self.bus.members = [m for m in self.bus.members if m.faults.process is not process]
            self.bus.rebalance()

    def _resume(self, process: Process) -> None:
        if process.paused:
            self.note(process.name, "goes on")
            self.loop.resume(process)

    async def _live(self) -> None:
        for _ in range(self.count):
            self.start()
        for sent in self.sent:
            await asyncio.sleep(max(0.0, sent.at_ms / 1000 - self.loop.time()))
            self.bus.append(Outgoing(INVENTORY_ORDERS.name, sent.key, sent.value))
        await asyncio.sleep(max(0.0, self.trouble_ms / 1000 - self.loop.time()))
        self.mix = {}
        self.note("all", "faults end")
        give_up_s = self.loop.time() + DRAIN_S
        while not self.watch.wrong and self.loop.time() < give_up_s:
            await asyncio.sleep(0.7)
            if self.database.holder is None and self._drained():
                return
        if not self.watch.wrong:
            self.watch.wrong.append(f"not drained {DRAIN_S:g} s after the last fault")

    def _drained(self) -> bool:
        soon_ms = self.now_ms() + 200
        due = [row for row in self.database.held() if row.expires_at_ms < soon_ms]
        return not (self.bus.behind() or self.database.outbox() or due)


def run(seed: int, database: Database, **options) -> World:
    """Return the world of this seed after all has happened."""
    world = World(seed, database, **options)
    world.run()
    return world
