"""The predictor's shell: takes ticks in, sends what the core foresees, shows how that fares.

Ticks come one by one from `stream.py` (Faust), into the partitions of `parts.py`; layouts, registry
and triggers are read beside it. A forecast is superseded by the next, so it is made when it can be
sent: while the broker is slow or away nothing piles up, and what goes out then is the newest.
"""

import asyncio
from itertools import islice

import structlog

from libs.common import intake, ticks, wire
from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from libs.common.messages import AppSamples
from libs.common.ports import Bus, Clock, Outgoing, Reader, Record
from libs.common.topics import LOAD_FORECASTS, NODE_SCORES
from libs.common.wire import Origin
from services.predictor import telemetry
from services.predictor.core import partition as partitions
from services.predictor.core.source import Policy, Sight
from services.predictor.declared import Declared
from services.predictor.parts import Part, Parts

log = structlog.get_logger()

BURIER = 0  # the partition whose worker buries the triggers that all of them read and refuse
SHOW_EVERY_MS = 1000  # gauges that cost a loop over all models
LOOK_EVERY_MS = 10_000
MADE_UP_AT_ONCE = 1000  # records
MAKING_RESTS = 19  # times as long as it took: a twentieth of a core is enough for making messages
REST_MS_MAX = 10  # but none waits for longer,
LIVE_MS = 1000  # if it is of a record that is no older than this
SOURCES_SHOWN_MAX = 200  # apps may name sources and nodes without end; a label must not


class Predictor:
    """One worker: what becomes of a record, and what is still to be sent."""

    def __init__(
        self,
        origin: Origin,
        bus: Bus,
        clock: Clock,
        policy: Policy,
        declared: Declared,
        parts: Parts,
    ) -> None:
        self._origin = origin
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._declared = declared
        self._parts = parts
        self._mine: set[int] = set()  # partitions
        self._due = asyncio.Event()
        self._shown_ms = 0
        self._shown_sources: set[str] = set()

    async def take(self, record: Record) -> None:
        """Fold one record of `metrics.samples`, unless the state holds it already.

        What cannot be read goes to `dead.letters`. What a record does depends on the state, on what
        is declared and on the record alone, its time too: read again, it does the same.
        """
        part = await self._parts.get(record.partition)
        if part is None or record.offset < part.next_offset:
            telemetry.SKIPPED.labels("held" if part else "moved").inc()
            return
        part.heard_ms = self._clock.now_ms()
        if record.offset > part.next_offset:
            await self._make_up(part, record.offset)
        await self._take(part, record)

    async def _make_up(self, part: Part, offset: int) -> None:
        """Take what should have come before `offset`."""
        log.warning(
            "records were passed over: they are read from the log",
            partition=part.partition,
            wanted=part.next_offset,
            came=offset,
        )
        while part.next_offset < offset and not part.gone:
            first, end = part.next_offset, min(offset, part.next_offset + MADE_UP_AT_ONCE)
            missed = await self._parts.missed(part, end)
            telemetry.MISSING.inc(end - first - len(missed))
            for record in missed:
                await self._take(part, record)
            part.next_offset = end

    async def _take(self, part: Part, record: Record) -> None:
        async with part.still:
            try:
                await self._fold(part, record)
            except ContractError as error:
                await intake.bury(record, str(error), self._bus, self._origin)
            part.next_offset = record.offset + 1

    async def _fold(self, part: Part, record: Record) -> None:
        sight = await self._read(part, record)
        if isinstance(sight, ticks.Wait):
            telemetry.SKIPPED.labels(sight).inc()
            return
        with telemetry.STEP.time():
            part.state, outcome = partitions.step(
                part.state,
                sight,
                self._declared.registry,
                self._policy,
                record.timestamp_ms,
                self._declared.announced,
            )
        if outcome.skipped:
            telemetry.SKIPPED.labels(outcome.skipped).inc()
            return
        telemetry.TICKS.inc()
        telemetry.FORGOTTEN.inc(outcome.forgotten)
        telemetry.SAMPLES.inc(len(sight.values))
        if outcome.models:
            part.forecasts_due = record
        if outcome.nodes:
            part.scores_due = record
        self._due.set()

    def keep(self, mine: set[int]) -> None:
        """Have these partitions from now on, and no others."""
        self._parts.keep(mine)
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
            due = [c for p in self._parts.ready() for c in (p.forecasts_due, p.scores_due) if c]
            newest_ms = max((cause.timestamp_ms for cause in due), default=0)
            messages = self._outgoing()
            rest_ms = MAKING_RESTS * (self._clock.now_ms() - begun_ms)
            if begun_ms - newest_ms < LIVE_MS:
                rest_ms = min(rest_ms, REST_MS_MAX)
            await self._bus.publish(messages)
            await self._clock.sleep_until_ms(self._clock.now_ms() + rest_ms)

    async def look(self) -> None:
        """Keep what is shown true while nothing is sent, for ever."""
        while True:
            self._show_now_and_then()
            await self._clock.sleep_until_ms(self._clock.now_ms() + LOOK_EVERY_MS)

    async def follow(self, reader: Reader) -> None:
        """Take in what is declared, for ever."""
        while True:
            self._declared.learn(await reader.poll(1.0))
            await self._bury_refused()

    async def _bury_refused(self) -> None:
        """Put refused triggers into `dead.letters`, once the partitions are shared out.

        Every worker reads all triggers; the one that has the first partition buries for all. It
        reads those of the last day again when it starts: a repeat has the same `dead-offset`.
        """
        while self._mine and self._declared.refused:
            record, reason = self._declared.refused.popleft()
            if BURIER in self._mine:
                await intake.bury(record, reason, self._bus, self._origin)

    async def _read(self, part: Part, record: Record) -> Sight | ticks.Wait:
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
            layout = await self._declared.layout(ticks.layout_id(tick))
        values = part.chains.read(tick, layout)
        if isinstance(values, ticks.Wait):
            return values
        return Sight(layout, layout.source, tick.at_ms, tick.at_ms + tick.holds_ms, values)

    def _outgoing(self) -> list[Outgoing]:
        """Make messages of all that is due."""
        messages = []
        for part in self._parts.ready():
            if part.forecasts_due is not None:
                messages.append(self._forecasts(part, part.forecasts_due))
            if part.scores_due is not None:
                messages.append(self._scores(part, part.scores_due))
            part.forecasts_due = part.scores_due = None
        self._show_now_and_then()
        return messages

    def _forecasts(self, part: Part, cause: Record) -> Outgoing:
        now_ms, key = self._clock.now_ms(), str(part.partition)
        said = partitions.forecasts(part.state, part.partition, self._policy)
        telemetry.STALENESS.labels(part.partition).set((now_ms - said.at_ms) / 1000)
        event_id = f"{cause.event_id}-forecasts"
        return wire.encode(LOAD_FORECASTS, key, said, self._origin, event_id, now_ms)

    def _scores(self, part: Part, cause: Record) -> Outgoing:
        now_ms, key = self._clock.now_ms(), str(part.partition)
        said = partitions.scores(part.state, part.partition, self._policy)
        for score in islice(said.scores, SOURCES_SHOWN_MAX):
            telemetry.show_node(score)
        event_id = f"{cause.event_id}-scores"
        return wire.encode(NODE_SCORES, key, said, self._origin, event_id, now_ms)

    def _show_now_and_then(self) -> None:
        now_ms = self._clock.now_ms()
        if now_ms - self._shown_ms >= SHOW_EVERY_MS:
            self._shown_ms = now_ms
            self._show(now_ms)

    def _show(self, now_ms: int) -> None:
        sources: dict[str, int] = {}
        for part in self._parts.ready():
            telemetry.SERIES.labels(part.partition).set(partitions.series_count(part.state))
            # In a partition where others speak, the core forgets who fell silent. Where nobody
            # does it keeps all it knows, but whose time is over is shown no more. It goes by when
            # records came, so that a worker that reads an old log hides nobody.
            if part.heard_ms + partitions.FORGET_MS < now_ms:
                continue
            sources.update((name, source.at_ms) for name, source in part.state.sources.items())
            # An app may name models without end; a label must not.
            declared = self._declared.registry.models
            accounts = partitions.accounts(part.state, self._policy, declared)
            for model, account in accounts.items():
                telemetry.show_model(model, account)
        shown = dict(islice(sources.items(), SOURCES_SHOWN_MAX))
        for name in self._shown_sources - shown.keys():
            telemetry.SAMPLE_TIMESTAMP.remove(name)
        for name, at_ms in shown.items():
            telemetry.SAMPLE_TIMESTAMP.labels(name).set(at_ms / 1000)
        self._shown_sources = set(shown)
