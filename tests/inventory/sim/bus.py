"""A bus that outlives its clients: partitions, and a group that hands them round.

A member that is paused for long loses its partitions to the others and goes on with what it has
read, as a zombie; its commits are of an old generation, and count for nothing.
"""

import asyncio
import zlib
from collections import defaultdict
from contextlib import asynccontextmanager

from libs.common.ports import Record
from libs.common.topics import BY_NAME, INVENTORY_ORDERS

PARTITIONS = 3  # of each topic: fewer, so that more meets in each


class SimBus:
    """What the brokers have."""

    def __init__(self, world) -> None:
        self.world = world
        self.logs = defaultdict(list)
        self.committed = defaultdict(int)
        self.members: list[Reader] = []
        self.generation = 0
        self.grown = asyncio.Event()

    def append(self, message) -> Record:
        partition = zlib.crc32(message.key.encode()) % PARTITIONS
        log = self.logs[message.topic, partition]
        record = Record(
            message.topic,
            partition,
            len(log),
            message.key.encode(),
            message.value,
            dict(message.headers),
            self.world.now_ms(),
        )
        log.append(record)
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()
        return record

    def records(self, topic):
        return [r for p in range(PARTITIONS) for r in self.logs[topic.name, p]]

    def rebalance(self) -> None:
        self.generation += 1
        self.members = [m for m in self.members if m.faults.process.alive]
        places = [(INVENTORY_ORDERS.name, p) for p in range(PARTITIONS)]
        for member in self.members:
            member.assigned = []
        for nth, place in enumerate(places):
            if self.members:
                nth += self.world.rng.randrange(len(self.members))
                self.members[nth % len(self.members)].assigned.append(place)
        self.world.note("bus", "rebalance")

    def behind(self) -> int:
        return sum(
            len(self.logs[INVENTORY_ORDERS.name, p]) - self.committed[INVENTORY_ORDERS.name, p]
            for p in range(PARTITIONS)
        )


class Client:
    """The bus as one process has it."""

    def __init__(self, bus: SimBus, faults) -> None:
        self.bus, self.faults = bus, faults

    async def publish(self, messages) -> None:
        await self.faults.hop("publish")
        faults = self.faults
        cut = faults.rng.randrange(len(messages) + 1) if faults.draw("publish fails") else None
        for position, message in enumerate(messages):
            if position == cut:
                raise ConnectionError("publish failed")
            if position and faults.rng.random() < 0.2:
                await faults.hop("publishing")
            assert message.topic in BY_NAME
            self.bus.world.said(self.bus.append(message))
        await faults.hop("published")
        faults.may_raise("acknowledgement is lost", ConnectionError)

    @asynccontextmanager
    async def subscribe(self, topics, group):
        reader = Reader(self.bus, self.faults)
        yield reader  # the group finds out by itself that a member is gone


class Reader:
    """A member of the group."""

    def __init__(self, bus: SimBus, faults) -> None:
        self.bus, self.faults = bus, faults
        self.assigned = []
        self._positions = {}
        self._generation = -1

    def hold(self, held: bool) -> None:
        """Nobody watches here."""

    async def poll(self, max_wait_s):
        await self.faults.hop("poll")
        self._join()
        found = self._take()
        if not found:
            grown = self.bus.grown
            try:
                async with asyncio.timeout(min(max_wait_s, 0.5)):
                    await grown.wait()
            except TimeoutError:
                return []
            self._join()
            found = self._take()
        return found

    async def commit(self, next_offsets) -> None:
        await self.faults.hop("commit offsets")
        if self.faults.draw("offset commit is lost"):
            self.bus.rebalance()  # or the client would try again, until it is acknowledged
        if self._generation != self.bus.generation:
            return
        self.bus.committed.update(next_offsets)
        await self.faults.hop("committed offsets")

    def _join(self) -> None:
        if self not in self.bus.members:
            self.bus.members.append(self)
            self.bus.rebalance()
        if self._generation != self.bus.generation:
            self._generation = self.bus.generation
            self._positions = {place: self.bus.committed[place] for place in self.assigned}

    def _take(self):
        found = []
        for place, position in self._positions.items():
            some = self.bus.logs[place][position : position + self.faults.rng.randint(1, 12)]
            found += some
            self._positions[place] += len(some)
        return found
