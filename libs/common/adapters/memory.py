"""A bus and a clock in memory: the shipped services run on them in the tests, without a broker.

They keep the promises of `ports.py` that a single process can keep, and pass the same contract test
as Kafka. They refuse to be a broker: nothing is stored, compacted or expired.
"""

import asyncio
import heapq
import itertools
import sys
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from libs.common.errors import Deposed
from libs.common.ports import RECENT_OFFSETS, Clock, Outgoing, Record, Start
from libs.common.topics import BY_NAME, Topic

Place = tuple[str, int]  # topic, partition


class ManualClock:
    """Time that moves only when told to; sleepers wake in order of their time."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._sequence = itertools.count()

    def now_ms(self) -> int:
        """Return the present."""
        return self._now_ms

    async def sleep_until_ms(self, at_ms: float) -> None:
        """Return once `advance` has moved the clock to `at_ms`."""
        if at_ms <= self._now_ms:
            await asyncio.sleep(0)
            return
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (at_ms, next(self._sequence), woken))
        await woken.wait()

    async def advance(self, by_ms: int) -> None:
        """Move on by `by_ms`, waking each sleeper at its time and letting the others run."""
        end_ms = self._now_ms + by_ms
        while self._sleepers and self._sleepers[0][0] <= end_ms:
            at_ms, _, woken = heapq.heappop(self._sleepers)
            self._now_ms = max(self._now_ms, int(-(-at_ms // 1)))
            woken.set()
            await _let_others_run()
        self._now_ms = end_ms
        await _let_others_run()


class MemoryBus:
    """All topics of the table, in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._logs: dict[Place, list[Record]] = defaultdict(list)
        self._committed: dict[tuple[str, str, int], int] = {}
        self._grown = asyncio.Event()
        self._candidates: dict[str, list[_MemoryCandidacy]] = defaultdict(list)
        self._epochs: dict[str, int] = {}  # of the leader in office, by topic
        self._holders: dict[Place, _MemoryTenure] = {}

    def records(self, topic: Topic) -> list[Record]:
        """Return all that was ever published to a topic, partition by partition (for tests)."""
        return [r for p in range(topic.partitions) for r in self._logs[(topic.name, p)]]

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Append every message, then let readers see them."""
        for message in messages:
            self._append(message)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def tail(self, topics: Sequence[Topic], start: Start) -> AsyncIterator["_MemoryReader"]:
        """Read every partition of `topics`, alone, from `start` on."""
        places = self._places(topics)
        back = {Start.EARLIEST: sys.maxsize, Start.RECENT: RECENT_OFFSETS, Start.LATEST: 0}[start]
        yield _MemoryReader(self, {p: max(0, len(self._logs[p]) - back) for p in places})

    @asynccontextmanager
    async def subscribe(
        self, topics: Sequence[Topic], group: str
    ) -> AsyncIterator["_MemoryGroupReader"]:
        """Read as the only member of `group`."""
        places = self._places(topics)
        starts = {place: self._committed.get((group, *place), 0) for place in places}
        yield _MemoryGroupReader(self, starts, group)

    @asynccontextmanager
    async def stand(self, topic: Topic, instance: str) -> AsyncIterator["_MemoryCandidacy"]:
        """Stand for leader; the first to stand leads, and the next when it goes."""
        candidacy = _MemoryCandidacy(self, topic, instance)
        queue = self._candidates[topic.name]
        queue.append(candidacy)
        try:
            yield candidacy
        finally:
            queue.remove(candidacy)
            for waiting in queue:
                waiting.turn.set()

    @asynccontextmanager
    async def hold(
        self, topic: Topic, partition: int, read: Topic, group: str
    ) -> AsyncIterator["_MemoryTenure"]:
        """Be the only writer of a partition; whoever was it before is deposed."""
        place = (topic.name, partition)
        self._holders[place] = tenure = _MemoryTenure(self, place, (read.name, partition), group)
        yield tenure

    def depose(self, topic: Topic) -> None:
        """Put the leader in office at the end of the queue, as a lost session does (for tests)."""
        queue = self._candidates[topic.name]
        queue.append(queue.pop(0))
        for waiting in queue:
            waiting.turn.set()

    def begin_anew(self, topic: Topic) -> None:
        """Lose all of a topic, as a broker does whose disk is a new one (for tests)."""
        for place in self._places([topic]):
            self._logs[place] = []

    def partition_of(self, topic: Topic, key: str) -> int:
        """Return the partition that a message with this key goes to."""
        return zlib.crc32(key.encode()) % topic.partitions

    def _places(self, topics: Sequence[Topic]) -> list[Place]:
        return [(topic.name, p) for topic in topics for p in range(topic.partitions)]

    def _append(self, message: Outgoing) -> int:
        topic = BY_NAME[message.topic]
        partition = message.partition
        if partition is None:
            partition = self.partition_of(topic, message.key)
        log = self._logs[(topic.name, partition)]
        record = Record(
            topic.name,
            partition,
            len(log),
            message.key.encode(),
            message.value,
            dict(message.headers),
            self._clock.now_ms(),
        )
        log.append(record)
        return record.offset


class _MemoryReader:
    def __init__(self, bus: MemoryBus, positions: dict[Place, int]) -> None:
        self._bus = bus
        self._positions = positions
        self._ends = {place: len(bus._logs[place]) for place in positions}

    async def poll(self, max_wait_s: float) -> list[Record]:
        found = self._take()
        if not found and max_wait_s > 0:
            try:
                async with asyncio.timeout(max_wait_s):
                    await self._bus._grown.wait()
            except TimeoutError:
                return []
            found = self._take()
        return found

    def caught_up(self) -> bool:
        return all(self._positions[place] >= end for place, end in self._ends.items())

    def _take(self) -> list[Record]:
        found: list[Record] = []
        for place, position in self._positions.items():
            log = self._bus._logs[place]
            found.extend(log[position:] if position <= len(log) else log)  # as Kafka's readers do
            self._positions[place] = len(log)
        return found


class _MemoryGroupReader(_MemoryReader):
    def __init__(self, bus: MemoryBus, positions: dict[Place, int], group: str) -> None:
        super().__init__(bus, positions)
        self._group = group

    def hold(self, held: bool) -> None:
        """Nobody watches here."""

    async def commit(self, next_offsets: Mapping[Place, int]) -> None:
        for place, offset in next_offsets.items():
            self._bus._committed[(self._group, *place)] = offset


class _MemoryCandidacy:
    def __init__(self, bus: MemoryBus, topic: Topic, instance: str) -> None:
        self._bus = bus
        self._topic = topic
        self._instance = instance
        self.turn = asyncio.Event()

    async def elected(self) -> "_MemoryTerm":
        queue = self._bus._candidates[self._topic.name]
        while queue[0] is not self:
            self.turn.clear()
            await self.turn.wait()
        claim = Outgoing(self._topic.name, "leader", self._instance.encode())
        epoch = self._bus._append(claim)
        self._bus._epochs[self._topic.name] = epoch
        return _MemoryTerm(self._bus, self._topic, epoch)


class _MemoryTerm:
    def __init__(self, bus: MemoryBus, topic: Topic, epoch: int) -> None:
        self._bus = bus
        self._topic = topic
        self.epoch = epoch

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        if self._bus._epochs[self._topic.name] != self.epoch:
            raise Deposed(f"epoch {self.epoch} is over")
        await self._bus.publish(messages)


class _MemoryTenure:
    def __init__(self, bus: MemoryBus, place: Place, read: Place, group: str) -> None:
        self._bus = bus
        self._place = place
        self._read = read
        self._commits = (group, *read)
        self.read_begin = 0
        self.read_end = len(bus._logs[read])

    async def last(self, count: int) -> list[Record]:
        return self._bus._logs[self._place][-count:]

    async def read(self, first: int, end: int) -> list[Record]:
        return self._bus._logs[self._read][first:end]

    async def publish(self, messages: Sequence[Outgoing], next_offset: int) -> None:
        if self._bus._holders[self._place] is not self:
            raise Deposed(f"{self._place} has another holder")
        await self._bus.publish(messages)
        self._bus._committed[self._commits] = next_offset


async def _let_others_run() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
