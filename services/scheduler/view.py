"""The latest word on everything a tick looks at, kept up to date from the bus by every instance.

A standby keeps it too, so that it can decide in the tick after its election. Nothing is decided
here, and nothing is remembered that the topics do not say again.
"""

import asyncio
from collections import deque

from libs.common import intake, wire
from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from libs.common.messages import Ack, DeviceSpec, FleetState, ModelSpec, Override
from libs.common.ports import Bus, Record, Start
from libs.common.topics import (
    BY_NAME,
    COMMANDS_ACKS,
    FLEET_STATE,
    LOAD_FORECASTS,
    NODE_SCORES,
    OPERATOR_OVERRIDES,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
    Topic,
)
from libs.common.wire import Origin
from services.scheduler.observation import Sources

# What stands until it is replaced is read from its beginning. Of the rest the newest is enough: an
# old forecast is stale, and an order whose refusal was missed is forgotten after a while.
LASTING = (REGISTRY_MODELS, REGISTRY_DEVICES, FLEET_STATE, OPERATOR_OVERRIDES)
PASSING = (LOAD_FORECASTS, NODE_SCORES, COMMANDS_ACKS)
# More than a tick may order, so that a refusal is still here when the next tick looks.
FAILURES_MAX = 1000


class View(Sources):
    """What the topics say now, by name. Read it between awaits: a tick sees one moment."""

    def __init__(self, bus: Bus, origin: Origin) -> None:
        super().__init__({}, {}, failures=deque(maxlen=FAILURES_MAX))
        self._bus = bus
        self._origin = origin
        self.news = asyncio.Event()  # set with every batch of records
        self._unread = {LASTING, PASSING}

    def complete(self) -> bool:
        """Return whether all that stood on the topics at the start has been read."""
        return not self._unread

    async def follow(self) -> None:
        """Keep up with the topics until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(LASTING, Start.EARLIEST))
            tasks.create_task(self._follow(PASSING, Start.RECENT))

    def seen_until_ms(self, now_ms: int) -> int:
        """Return the least, over the forecasts that hold, of the newest sample in each; 0: none."""
        live = [
            forecast.newest_sample_ms
            for name, forecast in self.forecasts.items()
            if name in self.models and forecast.next_by_ms >= now_ms
        ]
        return min(live, default=0)

    async def _follow(self, topics: tuple[Topic, ...], start: Start) -> None:
        async with self._bus.tail(topics, start) as reader:
            while True:
                if topics in self._unread and reader.caught_up():
                    self._unread.remove(topics)
                    self.news.set()
                await self._take(await reader.poll(max_wait_s=1.0))

    async def _take(self, records: list[Record]) -> None:
        for record in records:
            topic = BY_NAME[record.topic]
            if record.value is None:
                self._forget(topic, (record.key or b"").decode(errors="replace"))
                continue
            try:
                self._fold(wire.read(record))
            except ContractError as error:
                # Many read the registry of models; its dead letters are the executor's to write.
                if topic is not REGISTRY_MODELS:
                    await intake.bury(record, str(error), self._bus, self._origin)
        if records:
            self.news.set()

    def _fold(self, message: object) -> None:
        match message:
            case ModelSpec():
                self.models[message.name] = message
            case DeviceSpec():
                self.devices[message.device] = message
            case FleetState():
                self.fleet[message.node] = message
            case Override():
                self.overrides[message.target] = message
            case pb.LoadForecasts():
                self.forecasts.update((f.model, f) for f in message.forecasts)
            case pb.NodeScores():
                self.scores.update((score.node, score) for score in message.scores)
            case Ack(status="failed"):
                self.failures.append(message.command_id)

    def _forget(self, topic: Topic, key: str) -> None:
        """Drop what a tombstone names."""
        if topic is REGISTRY_MODELS:
            self.models.pop(key, None)
            self.forecasts.pop(key, None)
        elif topic is REGISTRY_DEVICES:
            self.devices.pop(key, None)
        elif topic is FLEET_STATE:
            self.fleet.pop(key, None)
        elif topic is OPERATOR_OVERRIDES:
            self.overrides.pop(key, None)
