"""A predictor on a bus in memory, fed as Faust would, for the tests of its shell."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.ports import Outgoing, Start
from libs.common.topics import DEAD_LETTERS, LOAD_FORECASTS, METRICS_LAYOUTS, METRICS_SAMPLES
from libs.common.wire import Origin
from services.predictor.app import Predictor
from services.predictor.core.source import Policy
from services.predictor.declared import TOPICS, Declared, catch_up
from services.predictor.parts import Parts

ORIGIN = Origin("predictor", "a")
START_MS = 1_800_000_000_000
SNAPSHOT_MS = 1000


class World:
    """One worker. Another one on the same bus takes over from it; its partition is 1."""

    def __init__(self, bus: MemoryBus | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(START_MS + 1000)
        self.bus = bus or MemoryBus(self.clock)
        self.ended: list[asyncio.Task[None]] = []
        self.declared = Declared(self.clock)
        self.parts = Parts(
            ORIGIN, self.bus, self.clock, self.declared, Policy(), every_ms=SNAPSHOT_MS
        )
        self.predictor = Predictor(
            ORIGIN, self.bus, self.clock, Policy(), self.declared, self.parts
        )

    @asynccontextmanager
    async def running(self, mine: frozenset[int] = frozenset({1})) -> AsyncIterator[None]:
        async with self.bus.tail(TOPICS, Start.EARLIEST) as reader:
            await catch_up(self.declared, reader)
            work = (self.parts.run(), self.predictor.follow(reader), self.predictor.send())
            tasks = [asyncio.create_task(part) for part in work]
            for task in tasks:
                task.add_done_callback(self.ended.append)
            try:
                await self.clock.advance(0)  # lets them begin
                self.predictor.keep(set(mine))
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with suppress(asyncio.CancelledError):
                        await task

    async def announce(self, layout: pb.Layout) -> None:
        key = layout.layout_id
        await self.bus.publish([wire.encode(METRICS_LAYOUTS, key, layout, ORIGIN, key, START_MS)])

    async def take_none(self) -> None:
        """Let the log of samples begin with a record that no worker was there to take."""
        await self.bus.publish([Outgoing(METRICS_SAMPLES.name, "chat", b"old", partition=1)])

    async def take(self, value: bytes | None, kind: bytes | None = None) -> None:
        headers = {} if kind is None else {"content-type": kind}
        sample = Outgoing(METRICS_SAMPLES.name, "chat", value, headers, 1)
        await MemoryBus.publish(self.bus, [sample])  # a test may have replaced that of our bus
        await self.predictor.take(self.bus.records(METRICS_SAMPLES)[-1])
        await self.clock.advance(0)  # lets the sender send

    def forecasts(self) -> list[pb.LoadForecasts]:
        records = self.bus.records(LOAD_FORECASTS)
        return [wire.decode_protobuf(record, pb.LoadForecasts) for record in records]

    def reasons(self) -> list[str]:
        letters = self.bus.records(DEAD_LETTERS)
        assert all(letter.headers["dead-topic"] == b"metrics.samples" for letter in letters)
        return [letter.headers["dead-reason"].decode() for letter in letters]
