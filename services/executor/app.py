"""The executor: requests and commands in, the simulated fleet moved on, results and samples out.

Everything that changes the fleet happens in `_turn` and never waits; the tasks around it wait for
the bus and for time. Events carry the moment at which they were due in the fleet's own time, so a
turn that comes some milliseconds late distorts no latency.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from libs.common.errors import ContractError
from libs.common.intake import bury, sift
from libs.common.messages import (
    Ack,
    InferenceRequest,
    ModelSpec,
    PlaceReplica,
    RoutingTable,
    ScaleModel,
    SetBatch,
)
from libs.common.ports import Bus, Clock, GroupReader, Reader, Record, Start
from libs.common.topics import (
    COMMANDS_BATCH,
    COMMANDS_PLACEMENT,
    COMMANDS_SCALING,
    INFERENCE_REQUESTS,
    REGISTRY_MODELS,
    ROUTING_TABLE,
    SCHEDULER_LEADER,
    SCHEDULER_TICKS,
)
from libs.common.wire import Origin
from libs.fleet.events import Gone, Request
from libs.fleet.fleet import Fleet
from libs.fleet.router import End, Router
from libs.fleet.spec import FleetSpec
from services.executor import outgoing, panel, telemetry
from services.executor.core.loop_latency import LoopLatency
from services.executor.core.offsets import Unfinished
from services.executor.core.repeats import Recent
from services.executor.orders import Orders
from services.executor.outbox import Outbox
from services.executor.sampler import Sampler
from services.executor.settings import ExecutorSection

POLL_S = 1.0
# How late a turn may come that nothing from the bus calls for. It delays a result, not its latency.
TURN_MS = 5
SECOND_MS = 1000
REPEATS_KNOWN = 100_000  # request ids: minutes of a busy fleet, some 10 MB
# What is written at one moment is taken in this order: a replica before its batch size.
COMMANDS: dict[str, type[ScaleModel] | type[PlaceReplica] | type[SetBatch]] = {
    COMMANDS_SCALING.name: ScaleModel,
    COMMANDS_PLACEMENT.name: PlaceReplica,
    COMMANDS_BATCH.name: SetBatch,
}


class Executor:
    """One simulated fleet with its router, over its ports."""

    def __init__(
        self, section: ExecutorSection, spec: FleetSpec, bus: Bus, clock: Clock, origin: Origin
    ) -> None:
        self._section = section
        self._spec = spec
        self._bus = bus
        self._clock = clock
        self._origin = origin
        now_ms = clock.now_ms()
        self.fleet = Fleet(spec, now_ms, section.switch_ms)
        self.router = Router(self.fleet)
        self._orders = Orders(self.fleet, self.router)
        self._sampler = Sampler(self.fleet, self.router, bus, origin)
        self._outbox = Outbox(bus, section.outbox_max)
        self._unfinished: dict[int, Unfinished] = defaultdict(Unfinished)  # by partition
        self._recent = Recent(REPEATS_KNOWN)
        self._loop_latency = LoopLatency()
        self._sampled_ms = now_ms - now_ms % section.sample_ms
        self._registry_read = False

    def fault(self) -> str | None:
        """Return what keeps this service from its work, or None."""
        return None if self._registry_read else "the registry of models has not been read yet"

    async def serve(self) -> None:
        """Run until cancelled; an exception in any task ends all."""
        commands = [COMMANDS_SCALING, COMMANDS_PLACEMENT, COMMANDS_BATCH]
        async with (
            self._bus.tail([REGISTRY_MODELS, ROUTING_TABLE], Start.EARLIEST) as registry,
            self._bus.tail(
                [SCHEDULER_LEADER, SCHEDULER_TICKS, *commands], Start.LATEST
            ) as scheduler,
            self._bus.subscribe([INFERENCE_REQUESTS], "executor") as requests,
        ):
            # Only now may a scheduler hear of the fleet: its first command must find us listening.
            self._publish_devices()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.run())
                tasks.create_task(self._take_registry(registry))
                tasks.create_task(self._take_from_scheduler(scheduler))
                tasks.create_task(self._take_requests(requests))
                tasks.create_task(self._commit(requests))
                tasks.create_task(self._keep_turning())

    # --- What comes in ----------------------------------------------------------------------------

    async def _take_registry(self, reader: Reader) -> None:
        while True:
            records = await reader.poll(POLL_S)
            models = [r for r in records if r.topic == REGISTRY_MODELS.name]
            written = [r for r in models if r.value is not None]
            read = await sift(written, ModelSpec, self._bus, self._origin)
            specs = {record.offset: spec for record, spec in read}  # of one partition
            for record in models:
                if record.offset in specs:
                    telemetry.begin(specs[record.offset].name)
                    self.router.register(specs[record.offset])
                elif record.value is None and record.key is not None:
                    self.router.forget(record.key.decode(errors="replace"))
            tables = [r for r in records if r.topic == ROUTING_TABLE.name and r.value is not None]
            for _, table in await sift(tables, RoutingTable, self._bus, self._origin):
                if not self.router.follow(table):
                    telemetry.STALE.labels(ROUTING_TABLE.name).inc()
            self._registry_read = self._registry_read or reader.caught_up()
            self._turn()

    async def _take_from_scheduler(self, reader: Reader) -> None:
        while True:
            records = await reader.poll(POLL_S)
            # In the order of their writing: what an old leader committed before the claim of the
            # next is in force, and would be refused after it.
            for record in sorted(records, key=_when_written):
                if record.topic == SCHEDULER_LEADER.name:
                    self._orders.saw_leader(record.offset)
                elif record.topic == SCHEDULER_TICKS.name:
                    self._saw_tick(record)
                else:
                    contract = COMMANDS[record.topic]
                    for _, command in await sift([record], contract, self._bus, self._origin):
                        await self._take_command(record, command)

    async def _take_command(
        self, record: Record, command: ScaleModel | PlaceReplica | SetBatch
    ) -> None:
        self._turn()
        try:
            acks = self._orders.take(
                record.topic, command, record.timestamp_ms, self._clock.now_ms()
            )
        except ContractError as error:
            await bury(record, str(error), self._bus, self._origin)
            return
        self._publish_acks(acks)

    def _saw_tick(self, record: Record) -> None:
        """Read the headers alone; a tick without them counts for nothing."""
        try:
            self._orders.saw_leader(int(record.headers["epoch"]))
            seen_until_ms = int(record.headers["seen-until-ms"])
        except (KeyError, ValueError):
            return
        for latency_ms in self._loop_latency.covered(seen_until_ms, self._clock.now_ms()):
            telemetry.LOOP_LATENCY.observe(latency_ms / 1000)

    async def _take_requests(self, reader: GroupReader) -> None:
        while True:
            while not self._ready_for_requests():
                reader.hold(True)  # on purpose, so nobody should take us for stuck
                await self._clock.sleep_until_ms(self._clock.now_ms() + TURN_MS)
            reader.hold(False)
            records = await reader.poll(POLL_S)
            fresh = [r for r in records if self._unfinished[r.partition].read(r.offset)]
            good = await sift(fresh, InferenceRequest, self._bus, self._origin)
            known = [
                (r, wish)
                for r, wish in good
                if self.router.knows(wish.model) and self._recent.is_new(wish.request_id)
            ]
            unknown = [(r, wish) for r, wish in good if not self.router.knows(wish.model)]
            self._arrive(known)
            for record, wish in unknown:
                await bury(record, f"unknown model {wish.model!r}", self._bus, self._origin)
            # What was buried is done with; what arrived is done with once its result is out.
            arrived = {(r.partition, r.offset) for r, _ in known}
            for record in fresh:
                if (record.partition, record.offset) not in arrived:
                    self._unfinished[record.partition].done(record.offset)

    def _arrive(self, wishes: Sequence[tuple[Record, InferenceRequest]]) -> None:
        now_ms = self._clock.now_ms()
        requests = [
            Request(
                wish.request_id,
                wish.model,
                now_ms if wish.due_at_ms is None else wish.due_at_ms,
                (record.partition, record.offset),
                wish.prompt_tokens,
                wish.output_tokens,
            )
            for record, wish in wishes
        ]
        self._turn(requests)

    def _ready_for_requests(self) -> bool:
        in_hand = sum(len(unfinished) for unfinished in self._unfinished.values())
        room = in_hand < self._section.requests_max and not self._outbox.full
        return self._registry_read and room

    async def _commit(self, reader: GroupReader) -> None:
        committed: dict[int, int] = {}
        while True:
            await self._clock.sleep_until_ms(self._clock.now_ms() + SECOND_MS)
            resume = {p: unfinished.resume_from() for p, unfinished in self._unfinished.items()}
            if resume != committed:
                await reader.commit(
                    {(INFERENCE_REQUESTS.name, p): offset for p, offset in resume.items()}
                )
                committed = resume

    # --- What goes on -----------------------------------------------------------------------------

    async def _keep_turning(self) -> None:
        while True:
            self._turn()
            await self._clock.sleep_until_ms(self._clock.now_ms() + TURN_MS)

    def _turn(self, arrivals: Sequence[Request] = ()) -> None:
        """Move the fleet on to now, by way of the sample that falls due, and tell what came."""
        now_ms = max(self._clock.now_ms(), int(self.fleet.now_ms))
        grid_ms = now_ms - now_ms % self._section.sample_ms
        if grid_ms > self._sampled_ms:
            self._move(grid_ms)
            self._sample(grid_ms)
        for request in arrivals:
            telemetry.ARRIVALS.labels(request.model).inc()
            self._sampler.count_arrival(request.model, request.prompt_tokens)
        self._move(now_ms, arrivals)

    def _move(self, until_ms: int, arrivals: Sequence[Request] = ()) -> None:
        turn = self.router.turn(until_ms, arrivals)
        if turn.ends or turn.events:
            self._sampler.count(turn.ends, turn.events)
            self._publish_results(turn.ends)
            self._publish_acks(self._orders.happened(turn.events, until_ms))
            for event in turn.events:
                if isinstance(event, Gone) and event.reason == "out of memory":
                    telemetry.OUT_OF_MEMORY.inc()
        changed = self.fleet.take_changed()
        if changed:
            self._publish_states(changed)

    # --- What goes out ----------------------------------------------------------------------------

    def _sample(self, at_ms: int) -> None:
        new_second = at_ms // SECOND_MS > self._sampled_ms // SECOND_MS
        self._sampled_ms = at_ms
        telemetry.OUTBOX.set(len(self._outbox))
        if new_second:
            panel.show(self.fleet, self.router)
        if self._outbox.full:
            return  # counters lose nothing by a sample left out
        of_models = self._sampler.of_models(at_ms, self._section.sample_ms)
        if of_models:
            self._outbox.put(of_models)
            self._loop_latency.taken(at_ms)
        if new_second:
            self._outbox.put(self._sampler.of_devices(at_ms, SECOND_MS))
            self._publish_states(self.fleet.nodes)
        new = self._sampler.new_layouts()
        announcements = [outgoing.layout(one, self._origin, at_ms) for one in new]
        self._outbox.put(announcements, lambda: self._sampler.announced(new))

    def _publish_results(self, ends: Sequence[End]) -> None:
        for end in ends:
            model = end.request.model
            telemetry.REQUESTS.labels(model, end.status).inc()
            if end.status != "rejected":
                telemetry.LATENCY_RATIO.labels(model).observe(end.latency_ms / end.objective_ms)

        def acknowledged() -> None:
            for end in ends:
                partition, offset = end.request.place
                self._unfinished[partition].done(offset)

        self._outbox.put([outgoing.result(end, self._origin) for end in ends], acknowledged)

    def _publish_acks(self, acks: Sequence[Ack]) -> None:
        self._outbox.put([outgoing.ack(ack, self._origin) for ack in acks])

    def _publish_states(self, nodes: Sequence[str]) -> None:
        states = [self.fleet.state_of(node) for node in nodes]
        self._outbox.put([outgoing.state(state, self._origin) for state in states])

    def _publish_devices(self) -> None:
        now_ms = self._clock.now_ms()
        devices = self._spec.devices()
        self._outbox.put([outgoing.device(one, self._origin, now_ms) for one in devices])


def _when_written(record: Record) -> tuple[int, int]:
    place = list(COMMANDS).index(record.topic) if record.topic in COMMANDS else len(COMMANDS)
    return record.timestamp_ms, place
