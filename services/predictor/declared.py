"""What a worker knows besides samples: layouts, registry and triggers, read by each for itself."""

import asyncio
from collections import deque

import structlog

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.errors import ContractError
from libs.common.messages import DeviceSpec, LoadTrigger, ModelSpec
from libs.common.ports import Clock, Reader, Record
from libs.common.topics import (
    LOAD_TRIGGERS,
    METRICS_LAYOUTS,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
)
from services.predictor import telemetry
from services.predictor.core import announcements, registry, triggers

log = structlog.get_logger()

TOPICS = (METRICS_LAYOUTS, REGISTRY_MODELS, REGISTRY_DEVICES, LOAD_TRIGGERS)
LAYOUT_WAIT_MS = 2000
REFUSED_MAX = 1000  # waiting for who is to bury them
LAYOUTS_MAX = 100_000  # the oldest goes first, and is announced again when its source starts


class Declared:
    """All that has been declared so far."""

    def __init__(self, clock: Clock) -> None:
        self.registry = registry.NOTHING_DECLARED
        self.announced = announcements.NOTHING_ANNOUNCED
        self.layouts: dict[str, pb.Layout] = {}
        self.refused: deque[tuple[Record, str]] = deque(maxlen=REFUSED_MAX)  # triggers, and why
        self._clock = clock
        self._hopeless: set[str] = set()  # layouts waited for in vain
        self._came = asyncio.Event()  # a layout has

    def learn(self, records: list[Record]) -> None:
        """Take in what was declared; what cannot be read is passed over."""
        for record in records:
            try:
                self._learn(record)
            except ContractError as error:
                log.warning("unreadable", topic=record.topic, reason=str(error))
                if record.topic == LOAD_TRIGGERS.name:
                    telemetry.TRIGGERS.labels("refused").inc()
                    self.refused.append((record, str(error)))
                else:
                    # People write these topics, and every service reads them at each start: the
                    # executor buries what it cannot read, once; a copy of each reader is noise.
                    telemetry.SKIPPED.labels("unreadable_declaration").inc()
        came, self._came = self._came, asyncio.Event()
        came.set()

    async def layout(self, layout_id: str) -> pb.Layout:
        """Return a layout, waiting a while for one that is on its way.

        Raises:
            ContractError: it did not come.
        """
        if layout_id not in self.layouts and layout_id not in self._hopeless:
            sleep = self._clock.sleep_until_ms(self._clock.now_ms() + LAYOUT_WAIT_MS)
            patience = asyncio.ensure_future(sleep)
            while layout_id not in self.layouts and not patience.done():
                came = asyncio.ensure_future(self._came.wait())
                await asyncio.wait((came, patience), return_when=asyncio.FIRST_COMPLETED)
                came.cancel()
            patience.cancel()
        if layout_id in self.layouts:
            return self.layouts[layout_id]
        if len(self._hopeless) >= LAYOUTS_MAX:
            self._hopeless.clear()
        # Waiting holds up every partition, so it is done once for each that does not come.
        self._hopeless.add(layout_id)
        raise ContractError(f"layout {layout_id!r} was never announced on {METRICS_LAYOUTS.name}")

    def _learn(self, record: Record) -> None:
        name = (record.key or b"").decode(errors="replace")
        gone = record.value is None
        if record.topic == METRICS_LAYOUTS.name:
            if gone:
                return
            layout = wire.decode_protobuf(record, pb.Layout)
            self.layouts[layout.layout_id] = layout
            self._hopeless.discard(layout.layout_id)
            if len(self.layouts) > LAYOUTS_MAX:
                del self.layouts[next(iter(self.layouts))]
        elif record.topic == REGISTRY_MODELS.name:
            model = None if gone else wire.decode_json(record, ModelSpec)
            name = name if model is None else model.name
            self.registry = registry.with_model(self.registry, name, model)
        elif record.topic == REGISTRY_DEVICES.name:
            device = None if gone else wire.decode_json(record, DeviceSpec)
            self.registry = registry.with_device(self.registry, name, device)
        else:
            self._hear(record)

    def _hear(self, record: Record) -> None:
        """Take in a trigger. Raises ContractError: it cannot be read, or cannot be true."""
        said = wire.decode_json(record, LoadTrigger)
        lift = triggers.read(said, record.timestamp_ms)
        self.announced, outcome = announcements.post(
            self.announced, said.model, lift, record.timestamp_ms, self.registry.models
        )
        telemetry.TRIGGERS.labels(outcome).inc()


async def catch_up(declared: Declared, reader: Reader) -> None:
    """Read all as it stands, before the first tick is taken."""
    while not reader.caught_up():
        declared.learn(await reader.poll(0.2))
