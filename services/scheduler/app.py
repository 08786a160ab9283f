"""The loop around the decision core: follow, be elected, observe, decide, publish; stand again.

One instance leads and the others stand by with the same view. A tick's commands, tables, reasons
and record go out in one transaction, so a tick is seen whole or not at all, and a successor takes
up the state that the last one left. No rule lives here.
"""

import asyncio
from contextlib import suppress
from math import isnan, nan

import numpy as np
import structlog

from libs.common import intake, wire
from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError, Deposed
from libs.common.messages import PlaceReplica, ScaleModel, SetBatch
from libs.common.ports import Bus, Clock, Outgoing, Record, Start, Term
from libs.common.topics import (
    COMMANDS_BATCH,
    COMMANDS_PLACEMENT,
    COMMANDS_SCALING,
    DECISIONS_EXPLAINED,
    ROUTING_TABLE,
    SCHEDULER_LEADER,
    SCHEDULER_TICKS,
    Topic,
)
from libs.common.wire import Origin
from services.scheduler import shadow, telemetry
from services.scheduler.core.contracts import (
    Decision,
    Observation,
    State,
    initial_state,
    parts_of,
)
from services.scheduler.core.decide import decide
from services.scheduler.observation import observe
from services.scheduler.settings import SchedulerSection
from services.scheduler.tick_record import record_of, state_in
from services.scheduler.view import View

log = structlog.get_logger()

# Half the period of the loop's samples: so early, a sample still counts as taken on the grid.
SAMPLE_JITTER_MS = 50
# A leader that has made no tick for so many periods is not at work.
SILENT_TICKS = 10
SHADOW = b"shadow"


class Scheduler:
    """One instance, leader or standby."""

    def __init__(self, bus: Bus, clock: Clock, origin: Origin, settings: SchedulerSection) -> None:
        self._bus = bus
        self._clock = clock
        self._origin = origin
        self._settings = settings
        self._policy = settings.policy()
        self._view = View(bus, origin)
        self._last_tick_ms: int | None = None  # None: not leading
        self._account = shadow.Account()

    async def serve(self) -> None:
        """Follow the topics and stand for leader until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._view.follow())
            tasks.create_task(self._stand())

    @property
    def _shadows(self) -> bool:
        return self._settings.mode == "shadow"

    def view_fault(self) -> str | None:
        """Return what the view lacks: an instance without one neither leads nor stands by."""
        return None if self._view.complete() else "the topics have not been read to their end"

    def tick_fault(self) -> str | None:
        """Return how long this leader has made no tick, if that is too long."""
        if self._last_tick_ms is None:
            return None
        silent_ms = self._clock.now_ms() - self._last_tick_ms
        if silent_ms < SILENT_TICKS * self._settings.tick_ms:
            return None
        return f"leading, but no tick for {silent_ms / 1000:.1f} s"

    # --- Leading ----------------------------------------------------------------------------------

    async def _stand(self) -> None:
        # A leader with half a view would take what it has not read yet for gone.
        while not self._view.complete():
            self._view.news.clear()
            await self._view.news.wait()
        async with self._bus.stand(SCHEDULER_LEADER, self._origin.instance) as candidacy:
            while True:
                term = await candidacy.elected()
                telemetry.LEADER.set(1)
                telemetry.EPOCH.set(term.epoch)
                self._last_tick_ms = self._clock.now_ms()
                try:
                    await self._lead(term)
                except Deposed:
                    pass  # the bus has said why; stand again
                finally:
                    self._last_tick_ms = None
                    telemetry.LEADER.set(0)
                    self._account = shadow.Account()
                    telemetry.OVERRIDES.set(0)
                    for gauge in (*telemetry.OF_MODELS, telemetry.SHADOW):
                        gauge.clear()

    async def _lead(self, term: Term) -> None:
        """Tick until deposed.

        A tick that comes late is made once, at once; those that it missed are not made up for.
        """
        state, tick = await self._restore()
        log.info("leading", epoch=term.epoch, first_tick=tick)
        tick_ms = self._settings.tick_ms
        grid_ms = self._clock.now_ms() // tick_ms * tick_ms
        while True:
            on_grid_ms = self._clock.now_ms() // tick_ms * tick_ms
            grid_ms = max(min(grid_ms, on_grid_ms) + tick_ms, on_grid_ms)  # a clock may be set back
            await self._clock.sleep_until_ms(grid_ms)
            await self._until_covered(grid_ms)
            now_ms = self._clock.now_ms()
            telemetry.TICK_LATENESS.observe((now_ms - grid_ms) / 1000)
            with telemetry.TICK_DURATION.time():
                seen = observe(self._view, state, term.epoch, tick, now_ms)
                decision = decide(state, seen, self._policy)
                if self._shadows:
                    decision = self._in_shadow(seen, decision)
                seen_until_ms = self._view.seen_until_ms(now_ms)
                await term.publish(self._messages(seen, decision, seen_until_ms))
            _count(decision)
            state, tick = decision.state, tick + 1
            self._last_tick_ms = now_ms

    async def _restore(self) -> tuple[State, int]:
        """Return the state that the last tick left, and the number of the next one.

        The predecessor is fenced by now, so the end of the topic is the end of its work.
        """
        records: list[Record] = []
        async with self._bus.tail([SCHEDULER_TICKS], Start.RECENT) as reader:
            while not reader.caught_up():
                records += await reader.poll(max_wait_s=0.1)
        for record in reversed(records):
            for _, last in await intake.sift([record], pb.TickRecord, self._bus, self._origin):
                if not self._shadows and record.headers.get("mode") == SHADOW:
                    log.info("the last tick was in shadow, and told nobody anything: afresh")
                    return initial_state(), last.tick + 1
                try:
                    return state_in(last), last.tick + 1
                except ContractError as error:
                    log.warning("the last state is of another version: afresh", reason=str(error))
                    return initial_state(), last.tick + 1
        return initial_state(), 0

    async def _until_covered(self, grid_ms: int) -> None:
        """Wait for the forecasts of the samples taken at `grid_ms`, but at most `wait_ms`.

        Samples are taken on the same grid and take some 20 to 60 ms to become forecasts. A tick
        that did not wait would always use samples that are one period older.
        """
        deadline = asyncio.create_task(self._clock.sleep_until_ms(grid_ms + self._settings.wait_ms))
        try:
            while not deadline.done():
                # Cleared before the look, so that what comes after the look ends the wait.
                self._view.news.clear()
                if self._covers(grid_ms):
                    return
                news = asyncio.create_task(self._view.news.wait())
                await asyncio.wait({news, deadline}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            deadline.cancel()

    def _covers(self, grid_ms: int) -> bool:
        seen_until_ms = self._view.seen_until_ms(self._clock.now_ms())
        return seen_until_ms == 0 or seen_until_ms >= grid_ms - SAMPLE_JITTER_MS

    def _in_shadow(self, seen: Observation, decision: Decision) -> Decision:
        """Return the decision without what anybody would act upon, and keep the account."""
        prices = np.array([self._view.devices[d].price_usd_per_hour for d in seen.devices])
        now = shadow.side_of(seen, decision, prices)
        telemetry.SHADOW.labels("ran").set(now.ran)
        telemetry.SHADOW.labels("wanted").set(now.wanted)
        account, said = shadow.step(self._account, seen, now), decision.why
        if account.last_ms - account.since_ms >= shadow.MINUTE_MS:
            said = (*said, shadow.report(account, seen))
            account = shadow.Account(account.last_ms, account.last_ms)
        self._account = account
        return decision._replace(commands=(), tables=(), why=said)

    # --- Messages ---------------------------------------------------------------------------------

    def _messages(
        self, seen: Observation, decision: Decision, seen_until_ms: int
    ) -> list[Outgoing]:
        """Return a tick's transaction: the record comes last, when all else has been said."""
        tick_id = f"{seen.epoch}-{seen.tick}"
        out = []
        for command in decision.commands:
            topic, key = _address(command)
            out.append(wire.encode(topic, key, command, self._origin, command.id, seen.now_ms))
        for table in decision.tables:
            event_id = f"{tick_id}-table-{table.model}"
            out.append(
                wire.encode(ROUTING_TABLE, table.model, table, self._origin, event_id, seen.now_ms)
            )
        for i, why in enumerate(decision.why):
            event_id = f"{tick_id}-why-{i}"
            out.append(
                wire.encode(
                    DECISIONS_EXPLAINED, why.model, why, self._origin, event_id, seen.now_ms
                )
            )
        record = record_of(seen, decision.state, seen_until_ms)
        last = wire.encode(SCHEDULER_TICKS, "", record, self._origin, tick_id, seen.now_ms)
        # Executors follow the ticks by these alone.
        headers = {
            **last.headers,
            "epoch": str(seen.epoch).encode(),
            "tick": str(seen.tick).encode(),
            "seen-until-ms": str(seen_until_ms).encode(),
            "mode": self._settings.mode.encode(),
        }
        return [*out, last._replace(headers=headers)]


def _address(command: PlaceReplica | ScaleModel | SetBatch) -> tuple[Topic, str]:
    """Return the topic and key of a command."""
    match command:
        case PlaceReplica():
            return COMMANDS_PLACEMENT, command.node
        case ScaleModel():
            return COMMANDS_SCALING, command.model
        case SetBatch():
            return COMMANDS_BATCH, command.model


def _count(decision: Decision) -> None:
    for why in decision.why:
        telemetry.DECISIONS.labels(why.action, why.bound).inc()
        if why.action == "foreign":
            for change, count in why.numbers.items():
                telemetry.FOREIGN.labels(why.model, change).inc(count)
    for command in decision.commands:
        if isinstance(command, PlaceReplica):
            telemetry.MOVES.labels(command.model, command.action).inc()
    state, figures = decision.state, decision.figures
    telemetry.OVERRIDES.set(len(state.overrides))
    batch_size = dict.fromkeys(state.models, 0)
    for name, size in zip(state.replicas, state.batch_size.tolist(), strict=True):
        model = parts_of(name)[0]
        batch_size[model] = max(batch_size.get(model, 0), size)
    for m, model in enumerate(state.models):
        telemetry.FOREIGN.labels(model, "appeared")  # from 0: an increase from nothing is none
        telemetry.THETA.labels(model).set(state.theta[m])
        telemetry.HELD.labels(model).set(state.held[m])
        telemetry.BATCH_SIZE.labels(model).set(batch_size[model])
        telemetry.CAPACITY.labels(model).set(figures.capacity_rps[m])
        known = (
            (telemetry.REPLICAS_TARGET, state.target[m] if state.target[m] >= 0 else nan),
            (telemetry.DEMAND, figures.demand_rps[m]),
            (telemetry.FORESEEN, figures.foreseen_rps[m]),
        )
        for gauge, value in known:
            if isnan(value):
                with suppress(KeyError):
                    gauge.remove(model)
            else:
                gauge.labels(model).set(value)
