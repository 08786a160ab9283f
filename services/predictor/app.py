"""The predictor's shell: takes ticks in, keeps the core's states, sends what they foresee.

Ticks come one by one from `stream.py` (Faust); layouts, registry and triggers are read beside it. A
forecast is superseded by the next, so it is made when it can be sent: while the broker is slow or
away nothing piles up, and what goes out then is the newest.
"""

import asyncio
from collections import defaultdict, deque
from itertools import islice

import structlog

from libs.common import intake, ticks, wire
from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from libs.common.messages import AppSamples, DeviceSpec, LoadTrigger, ModelSpec
from libs.common.ports import Bus, Clock, Outgoing, Reader, Record
from libs.common.topics import (
    LOAD_FORECASTS,
    LOAD_TRIGGERS,
    METRICS_LAYOUTS,
    NODE_SCORES,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
)
from libs.common.wire import Origin
from services.predictor import telemetry
from services.predictor.core import announcements, registry, triggers
from services.predictor.core import partition as partitions
from services.predictor.core.partition import Partition
from services.predictor.core.source import Policy, Sight

log = structlog.get_logger()

LAYOUT_WAIT_MS = 2000
BURIER = 0  # the partition whose worker buries what all of them read and refuse
REFUSED_MAX = 1000  # waiting for that to be known
SHOW_EVERY_MS = 1000  # gauges that cost a loop over all models
FORGET_EVERY_MS = 10_000
MAKING_RESTS = 19  # times as long as it took: a twentieth of a core is enough for making messages
REST_MS_MAX = 10  # but none waits for longer,
LIVE_MS = 1000  # if it is of a record that is no older than this
SOURCES_SHOWN_MAX = 200  # apps may name sources and nodes without end; a label must not
LAYOUTS_MAX = 100_000  # the oldest goes first, and is announced again when its source starts


class Predictor:
    """One worker: the states of its partitions, and what of them is still to be sent."""

    def __init__(self, origin: Origin, bus: Bus, clock: Clock, policy: Policy) -> None:
        self._origin = origin
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._registry = registry.NOTHING_DECLARED
        self._announced = announcements.NOTHING_ANNOUNCED
        self._refused: deque[tuple[Record, str]] = deque(maxlen=REFUSED_MAX)
        self._mine: set[int] = set()  # partitions
        self._layouts: dict[str, pb.Layout] = {}
        self._hopeless: set[str] = set()  # layouts waited for in vain
        self._came = asyncio.Event()  # a layout has
        self._states: dict[int, Partition] = {}
        self._chains: defaultdict[int, ticks.Chains] = defaultdict(ticks.Chains)  # by partition
        # What has changed since it was last sent, by partition: the record that changed it last.
        self._forecasts_due: dict[int, Record] = {}
        self._scores_due: dict[int, Record] = {}
        self._due = asyncio.Event()
        self._heard_ms: dict[int, int] = {}  # by partition: when its last record came
        self._shown_ms = 0
        self._shown_sources: set[str] = set()

    async def take(self, record: Record) -> None:
        """Fold one record of `metrics.samples`; what cannot be read goes to `dead.letters`."""
        self._heard_ms[record.partition] = self._clock.now_ms()
        try:
            sight = await self._read(record)
            if isinstance(sight, ticks.Wait):
                telemetry.SKIPPED.labels(sight).inc()
                return
            state = self._states.get(record.partition, Partition({}))
            with telemetry.STEP.time():
                state, outcome = partitions.step(
                    state,
                    sight,
                    self._registry,
                    self._policy,
                    self._clock.now_ms(),
                    self._announced,
                )
        except ContractError as error:
            await intake.bury(record, str(error), self._bus, self._origin)
            return
        if outcome.skipped:
            telemetry.SKIPPED.labels(outcome.skipped).inc()
            return
        telemetry.TICKS.inc()
        telemetry.FORGOTTEN.inc(outcome.forgotten)
        telemetry.SAMPLES.inc(len(sight.values))
        self._states[record.partition] = state
        if outcome.models:
            self._forecasts_due[record.partition] = record
        if outcome.nodes:
            self._scores_due[record.partition] = record
        self._due.set()

    def keep(self, mine: set[int]) -> None:
        """Forget partitions that another worker has now."""
        for partition in self._states.keys() - mine:
            for kept in (self._states, self._heard_ms, self._forecasts_due, self._scores_due):
                kept.pop(partition, None)
        for partition in self._chains.keys() - mine:
            del self._chains[partition]
        # What another worker shows now must not stand here too, at its last value.
        for gauge in (*telemetry.OF_MODELS, *telemetry.OF_NODES, telemetry.STALENESS):
            gauge.clear()
        self._mine = mine

    async def send(self) -> None:
        """Send what is due, newest state first made into messages, for ever.

        Where many models come with each tick, or ticks come in a hurry from an old log, several
        ticks are told of together: the next forecast supersedes this one anyhow.
        """
        while True:
            await self._due.wait()
            self._due.clear()
            begun_ms = self._clock.now_ms()
            due = (*self._forecasts_due.values(), *self._scores_due.values())
            newest_ms = max((cause.timestamp_ms for cause in due), default=0)
            messages = self._outgoing()
            rest_ms = MAKING_RESTS * (self._clock.now_ms() - begun_ms)
            if begun_ms - newest_ms < LIVE_MS:
                rest_ms = min(rest_ms, REST_MS_MAX)
            await self._bus.publish(messages)
            await self._clock.sleep_until_ms(self._clock.now_ms() + rest_ms)

    async def forget(self) -> None:
        """Forget the sources of partitions from which nothing comes any more, for ever.

        While others speak in a partition, the core forgets who fell silent; here none does. It goes
        by our own clock, so that a worker that reads an old log forgets nobody. What is shown
        follows, though nothing is sent.
        """
        while True:
            now_ms = self._clock.now_ms()
            for partition, heard_ms in list(self._heard_ms.items()):
                if heard_ms + partitions.FORGET_MS < now_ms:
                    del self._heard_ms[partition]
                    state = self._states.pop(partition, None)
                    telemetry.FORGOTTEN.inc(0 if state is None else len(state.sources))
                    telemetry.SERIES.labels(partition).set(0)
            if now_ms - self._shown_ms >= SHOW_EVERY_MS:
                self._shown_ms = now_ms
                self._show()
            await self._clock.sleep_until_ms(now_ms + FORGET_EVERY_MS)

    async def follow(self, reader: Reader) -> None:
        """Take in layouts, the registry and triggers, for ever."""
        while True:
            await self.learn(await reader.poll(1.0))
            await self._bury_refused()

    async def learn(self, records: list[Record]) -> None:
        """Take in records of the layouts, of the registry and of the triggers."""
        for record in records:
            try:
                self._learn(record)
            except ContractError as error:
                log.warning("unreadable", topic=record.topic, reason=str(error))
                if record.topic == LOAD_TRIGGERS.name:
                    telemetry.TRIGGERS.labels("refused").inc()
                    self._refused.append((record, str(error)))
                else:
                    # People write these topics, and every service reads them at each start: the
                    # executor buries what it cannot read, once; a copy of each reader is noise.
                    telemetry.SKIPPED.labels("unreadable_declaration").inc()
        came, self._came = self._came, asyncio.Event()
        came.set()

    async def _bury_refused(self) -> None:
        """Put refused triggers into `dead.letters`, once the partitions are shared out.

        Every worker reads all triggers; the one that has the first partition buries for all. It
        reads those of the last day again when it starts: a repeat has the same `dead-offset`.
        """
        while self._mine and self._refused:
            record, reason = self._refused.popleft()
            if BURIER in self._mine:
                await intake.bury(record, reason, self._bus, self._origin)

    def _learn(self, record: Record) -> None:
        name = (record.key or b"").decode(errors="replace")
        gone = record.value is None
        if record.topic == METRICS_LAYOUTS.name:
            if gone:
                return
            layout = wire.decode_protobuf(record, pb.Layout)
            self._layouts[layout.layout_id] = layout
            self._hopeless.discard(layout.layout_id)
            if len(self._layouts) > LAYOUTS_MAX:
                del self._layouts[next(iter(self._layouts))]
        elif record.topic == REGISTRY_MODELS.name:
            model = None if gone else wire.decode_json(record, ModelSpec)
            name = name if model is None else model.name
            self._registry = registry.with_model(self._registry, name, model)
        elif record.topic == REGISTRY_DEVICES.name:
            device = None if gone else wire.decode_json(record, DeviceSpec)
            self._registry = registry.with_device(self._registry, name, device)
        else:
            self._hear(record)

    def _hear(self, record: Record) -> None:
        """Take in a trigger. Raises ContractError: it cannot be read, or cannot be true."""
        said = wire.decode_json(record, LoadTrigger)
        lift = triggers.read(said, record.timestamp_ms)
        declared = self._registry.models
        self._announced, outcome = announcements.post(
            self._announced, said.model, lift, record.timestamp_ms, declared
        )
        telemetry.TRIGGERS.labels(outcome).inc()

    async def _read(self, record: Record) -> Sight | ticks.Wait:
        """Read a tick, or an app's samples in JSON; or say what a tick has to wait for.

        Raises:
            ContractError: it is neither, or its layout was never announced.
        """
        kind = record.headers.get("content-type", b"")
        bare_json = not kind and (record.value or b"").lstrip()[:1] == b"{"
        if kind.startswith(wire.JSON) or bare_json:
            layout, tick = ticks.tick_of_app_samples(wire.decode_json(record, AppSamples))
        else:
            tick = wire.decode_protobuf(record, pb.Tick)
            if not tick.layout:
                raise ContractError("a tick without a layout")
            layout = await self._layout(ticks.layout_id(tick))
        values = self._chains[record.partition].read(tick, layout)
        if isinstance(values, ticks.Wait):
            return values
        return Sight(layout, layout.source, tick.at_ms, tick.at_ms + tick.holds_ms, values)

    async def _layout(self, layout_id: str) -> pb.Layout:
        """Return a layout, waiting a while for one that is on its way.

        Raises:
            ContractError: it did not come.
        """
        if layout_id not in self._layouts and layout_id not in self._hopeless:
            sleep = self._clock.sleep_until_ms(self._clock.now_ms() + LAYOUT_WAIT_MS)
            patience = asyncio.ensure_future(sleep)
            while layout_id not in self._layouts and not patience.done():
                came = asyncio.ensure_future(self._came.wait())
                await asyncio.wait((came, patience), return_when=asyncio.FIRST_COMPLETED)
                came.cancel()
            patience.cancel()
        if layout_id in self._layouts:
            return self._layouts[layout_id]
        if len(self._hopeless) >= LAYOUTS_MAX:
            self._hopeless.clear()
        # Waiting holds up every partition, so it is done once for each that does not come.
        self._hopeless.add(layout_id)
        raise ContractError(f"layout {layout_id!r} was never announced on {METRICS_LAYOUTS.name}")

    def _outgoing(self) -> list[Outgoing]:
        """Make messages of all that is due."""
        now_ms = self._clock.now_ms()
        messages = []
        for partition, cause in self._forecasts_due.items():
            state = self._states[partition]
            forecasts = partitions.forecasts(state, partition, self._policy)
            event_id = f"{cause.event_id}-forecasts"
            messages.append(
                wire.encode(
                    LOAD_FORECASTS, str(partition), forecasts, self._origin, event_id, now_ms
                )
            )
            telemetry.STALENESS.labels(partition).set((now_ms - forecasts.at_ms) / 1000)
        for partition, cause in self._scores_due.items():
            scores = partitions.scores(self._states[partition], partition, self._policy)
            for score in islice(scores.scores, SOURCES_SHOWN_MAX):
                telemetry.show_node(score)
            event_id = f"{cause.event_id}-scores"
            messages.append(
                wire.encode(NODE_SCORES, str(partition), scores, self._origin, event_id, now_ms)
            )
        self._forecasts_due.clear()
        self._scores_due.clear()
        if now_ms - self._shown_ms >= SHOW_EVERY_MS:
            self._shown_ms = now_ms
            self._show()
        return messages

    def _show(self) -> None:
        sources: dict[str, int] = {}
        for partition, state in self._states.items():
            telemetry.SERIES.labels(partition).set(partitions.series_count(state))
            sources.update((name, source.at_ms) for name, source in state.sources.items())
            for model, account in partitions.accounts(state, self._policy).items():
                # An app may name models without end; a label must not.
                if model in self._registry.models:
                    telemetry.show_model(model, account)
        shown = dict(islice(sources.items(), SOURCES_SHOWN_MAX))
        for name in self._shown_sources - shown.keys():
            telemetry.SAMPLE_TIMESTAMP.remove(name)
        for name, at_ms in shown.items():
            telemetry.SAMPLE_TIMESTAMP.labels(name).set(at_ms / 1000)
        self._shown_sources = set(shown)


async def catch_up(predictor: Predictor, reader: Reader) -> None:
    """Read layouts, registry and triggers as they stand, before the first tick is taken."""
    while not reader.caught_up():
        await predictor.learn(await reader.poll(0.2))
