"""Follows topics from two ends: kept ones from their beginning, streams from now on.

On a broker that has been in use, a day of old ticks and results says nothing of the present, while
a registry is only whole when read from its beginning.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from time import monotonic
from typing import Self

from libs.common.ports import Bus, Reader, Record, Start
from libs.common.topics import Topic

POLL_S = 0.05
WHOLE_POLL_S = 0.2


async def whole(bus: Bus, topic: Topic) -> AsyncIterator[Record]:
    """Yield every record of a topic as it stands."""
    async with bus.tail([topic], Start.EARLIEST) as reader:
        while not reader.caught_up():
            for record in await reader.poll(WHOLE_POLL_S):
                yield record


class Follower:
    """Hands every record of some topics to `take`; an async context manager."""

    def __init__(
        self,
        bus: Bus,
        topics: Sequence[Topic],
        take: Callable[[Record], None],
        *,
        whole: Collection[Topic] = (),  # streams to read from their beginning all the same
    ) -> None:
        self._bus = bus
        self._whole = [t for t in topics if t.retention_ms is None or t in whole]
        self._streams = [t for t in topics if t not in self._whole]
        self._take = take
        self._readers: list[Reader] = []
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for topics, start in ((self._whole, Start.EARLIEST), (self._streams, Start.LATEST)):
            if topics:
                reader = await self._exits.enter_async_context(self._bus.tail(topics, start))
                self._readers.append(reader)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def read_for(self, seconds: float) -> None:
        """Read for about so long, at least once."""
        until = monotonic() + seconds
        while True:
            for reader in self._readers:
                for record in await reader.poll(POLL_S):
                    self._take(record)
            if monotonic() >= until:
                return
