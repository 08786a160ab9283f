"""An executor on a bus and a clock in memory, with what stands around it played by the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import (
    Ack,
    FleetState,
    InferenceRequest,
    InferenceResult,
    Message,
    ModelSpec,
    PlaceReplica,
    RoutingTable,
    SetBatch,
)
from libs.common.ports import Bus, GroupReader, Outgoing, Reader, Record, Start
from libs.common.topics import (
    COMMANDS_ACKS,
    COMMANDS_BATCH,
    COMMANDS_PLACEMENT,
    FLEET_STATE,
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    REGISTRY_MODELS,
    ROUTING_TABLE,
    SCHEDULER_TICKS,
    Topic,
)
from libs.common.wire import Origin, decode_json, encode
from libs.fleet.spec import FleetSpec
from services.executor.app import Executor
from services.executor.settings import ExecutorSection
from tests.fleet.worlds import model, spec, table

START_MS = 1_800_000_000_000
TEST = Origin("test", "t")
M = TypeVar("M", bound=Message)


class Stage:
    """The bus, the clock, and one executor at a time."""

    def __init__(self, fleet: FleetSpec | None = None, **section: object) -> None:
        self.clock = ManualClock(START_MS)
        self.bus = MemoryBus(self.clock)
        self.fleet = fleet or spec()
        self.section = ExecutorSection.model_validate(section)
        self.executor: Executor
        self.sent = 0

    @asynccontextmanager
    async def running(self, bus: Bus | None = None) -> AsyncIterator[Executor]:
        """Run an executor, then end it as a crash does: nothing is told or committed any more."""
        origin = Origin("executor", "x")
        self.executor = Executor(self.section, self.fleet, bus or self.bus, self.clock, origin)
        task = asyncio.create_task(self.executor.serve())
        await self.clock.advance(20)
        assert not task.done(), task
        try:
            yield self.executor
            assert not task.done(), task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def say(self, topic: Topic, key: str, message: Message) -> None:
        await self.bus.publish([encode(topic, key, message, TEST, key, self.clock.now_ms())])
        await self.clock.advance(0)

    async def register(self, *models: ModelSpec) -> None:
        for one in models or (model(),):
            await self.say(REGISTRY_MODELS, one.name, one)

    async def place(self, command_id: str, replica: str = "m@n-0:0", action: str = "load") -> None:
        await self.bus.publish([self.placement(command_id, replica, action)])
        await self.clock.advance(0)

    def placement(
        self, command_id: str, replica: str = "m@n-0:0", action: str = "load"
    ) -> Outgoing:
        served, _, place = replica.partition("@")
        node, _, gpus = place.partition(":")
        command = PlaceReplica(
            id=command_id,
            replica=replica,
            model=served,
            node=node,
            gpus=tuple(map(int, gpus.split("+"))),
            action=action,
        )
        now_ms = self.clock.now_ms()
        return encode(COMMANDS_PLACEMENT, node, command, TEST, command_id, now_ms)

    async def set_batch(self, command_id: str, replica: str = "m@n-0:0", size: int = 4) -> None:
        command = SetBatch(
            id=command_id, replica=replica, model="m", batch_size=size, wait_ms=0, serving_share=1
        )
        await self.say(COMMANDS_BATCH, "m", command)

    async def route(self, *routes: tuple[str, int], epoch: int = 1, tick: int = 0) -> None:
        await self.say(ROUTING_TABLE, "m", table("m", *routes, epoch=epoch, tick=tick))

    async def tick(self, seen_until_ms: int, epoch: int = 1) -> None:
        headers = {"epoch": b"%d" % epoch, "tick": b"1", "seen-until-ms": b"%d" % seen_until_ms}
        await self.bus.publish([Outgoing(SCHEDULER_TICKS.name, "", b"", headers)])
        await self.clock.advance(1)

    async def request(self, count: int = 1, of: str = "m") -> None:
        now_ms = self.clock.now_ms()
        wishes = [
            InferenceRequest(request_id=f"r{self.sent + i}", model=of, due_at_ms=now_ms)
            for i in range(count)
        ]
        self.sent += count
        topic = INFERENCE_REQUESTS
        await self.bus.publish(
            [encode(topic, w.request_id, w, TEST, w.request_id, now_ms) for w in wishes]
        )
        await self.clock.advance(0)

    async def serving(self, replica: str = "m@n-0:0") -> None:
        """Bring the model `m` to serve on one replica."""
        await self.register()
        await self.place("1-0-0", replica)
        await self.clock.advance(1100)
        await self.route((replica, 100))

    def said(self, topic: Topic, contract: type[M]) -> list[M]:
        return [decode_json(record, contract) for record in self.bus.records(topic)]

    def bus_messages(self, topic: Topic) -> list[Outgoing]:
        """All that was published to a topic, to be published again."""
        return [
            Outgoing(topic.name, (record.key or b"").decode(), record.value, record.headers)
            for record in self.bus.records(topic)
        ]

    def results(self) -> list[InferenceResult]:
        return self.said(INFERENCE_RESULTS, InferenceResult)

    def acks(self) -> list[tuple[str, str]]:
        return [(ack.command_id, ack.status) for ack in self.said(COMMANDS_ACKS, Ack)]

    def last_state(self, node: str = "n-0") -> FleetState:
        return [s for s in self.said(FLEET_STATE, FleetState) if s.node == node][-1]

    def tables(self) -> list[RoutingTable]:
        return self.said(ROUTING_TABLE, RoutingTable)


class FaultyBus:
    """The bus in memory, with what a real one does at times."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.up = asyncio.Event()  # publishing waits for it
        self.up.set()
        self.registry_up = asyncio.Event()  # reading from the beginning waits for it
        self.registry_up.set()
        self.stand = bus.stand
        self.partition_of = bus.partition_of

    @asynccontextmanager
    async def tail(self, topics: Sequence[Topic], start: Start) -> AsyncIterator[Reader]:
        async with self._bus.tail(topics, start) as reader:
            yield _Slow(reader, self.registry_up) if start is Start.EARLIEST else reader

    @asynccontextmanager
    async def subscribe(self, topics: Sequence[Topic], group: str) -> AsyncIterator[GroupReader]:
        async with self._bus.subscribe(topics, group) as reader:
            yield _Repeating(reader)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        await self.up.wait()
        await self._bus.publish(messages)


class _Slow:
    """A reader that finds nothing until `up`."""

    def __init__(self, reader: Reader, up: asyncio.Event) -> None:
        self._reader = reader
        self._up = up
        self.caught_up = reader.caught_up

    async def poll(self, max_wait_s: float) -> list[Record]:
        await self._up.wait()
        return await self._reader.poll(max_wait_s)


class _Repeating:
    """A reader that gives everything twice, as after a rebalance what is not committed yet."""

    def __init__(self, reader: GroupReader) -> None:
        self._reader = reader
        self.caught_up = reader.caught_up
        self.commit = reader.commit
        self.hold = reader.hold

    async def poll(self, max_wait_s: float) -> list[Record]:
        records = await self._reader.poll(max_wait_s)
        return records + records


def event_ids(records: Sequence[Record]) -> list[bytes]:
    return [record.headers["ce_id"] for record in records]
