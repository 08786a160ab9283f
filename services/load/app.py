"""The open-loop sender: each request goes out at its due time, whether or not others have ended.

A closed loop would send less when the fleet is slow and so hide the delay that it should show.
Requests that the bus could not take in time are sent late with the due time they had.
"""

import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import structlog

from libs.common.errors import ContractError, SettingError
from libs.common.messages import InferenceRequest
from libs.common.ports import Bus, Clock, Outgoing
from libs.common.topics import INFERENCE_REQUESTS
from libs.common.wire import Origin, encode
from services.load import telemetry
from services.load.core.arrivals import Arrivals, Plan, merge, superpose
from services.load.core.synthetic import CLIENTS, OTHERS, generate
from services.load.settings import LoadSection
from services.load.trace_file import read_trace

TRACED_MODEL = "chat"
# All that is due within a turn travels together.
TURN_MS = 5
# Batches under way at once. At 10 ms a batch a healthy bus needs two; an outage fills them all,
# and what is due meanwhile waits for the first to return.
BATCHES_MAX = 32
BATCH_REQUESTS_MAX = 500
PROGRESS_MS = 1000
# A load without end goes in rounds: short, so that whoever looks for minutes sees bursts; as long
# as the usual published trace where one is played.
ROUND_MS, ROUND_OF_TRACE_MS = 300_000, 3_600_000

log = structlog.get_logger()


def plan_of(settings: LoadSection) -> Plan:
    """Make the plan that the settings ask for; the same settings make the same plan.

    Raises:
        SettingError: the trace cannot be read.
    """
    duration_ms = settings.duration_s * 1000
    streams = iter(np.random.default_rng(settings.seed).spawn(len(settings.rates_rps) + 1))
    arrivals: dict[str, Arrivals] = {}
    if settings.trace:
        try:
            trace = read_trace(Path(settings.trace), duration_ms)
        except ContractError as error:
            raise SettingError(f"PLIMSOLL_LOAD__TRACE: {error}") from error
        arrivals[TRACED_MODEL] = superpose(trace, settings.copies, duration_ms, next(streams))
    for model, rate_rps in settings.rates_rps.items():
        if model not in arrivals:
            clients = CLIENTS.get(model, OTHERS)
            arrivals[model] = generate(clients, rate_rps, duration_ms, next(streams))
    return merge(arrivals)


async def send_without_end(
    settings: LoadSection, run: str, bus: Bus, clock: Clock, origin: Origin
) -> None:
    """Send plan after plan, each with its own draw, in one unbroken row of due times.

    After a pause longer than a plan (a machine that slept) the row begins anew: nobody wants hours
    of old requests at once.
    """
    round_ms = ROUND_OF_TRACE_MS if settings.trace else ROUND_MS
    start_ms, number = clock.now_ms(), 0
    while True:
        plan = plan_of(
            settings.model_copy(
                update={"duration_s": round_ms / 1000, "seed": settings.seed + number}
            )
        )
        await Sender(plan, f"{run}-{number}", bus, clock, origin, start_ms).send()
        await clock.sleep_until_ms(start_ms + round_ms)
        late = clock.now_ms() - start_ms > 2 * round_ms
        start_ms, number = clock.now_ms() if late else start_ms + round_ms, number + 1


class Sender:
    """Sends one plan. `acknowledged` counts what the bus has confirmed, by model."""

    def __init__(
        self,
        plan: Plan,
        run: str,
        bus: Bus,
        clock: Clock,
        origin: Origin,
        start_ms: int | None = None,  # of the plan; None: now
    ) -> None:
        self.acknowledged: Counter[str] = Counter()
        self._plan = plan
        self._run = run
        self._bus = bus
        self._clock = clock
        self._origin = origin
        self._start_ms = clock.now_ms() if start_ms is None else start_ms

    async def send(self) -> None:
        """Send every request of the plan, and return once all are acknowledged."""
        free = asyncio.Semaphore(BATCHES_MAX)
        log.info("start", start_ms=self._start_ms, planned=len(self._plan.at_ms), run=self._run)
        async with asyncio.TaskGroup() as publishing:
            reporter = publishing.create_task(self._report())
            batches: set[asyncio.Task[None]] = set()
            position = 0
            while position < len(self._plan.at_ms):
                await self._clock.sleep_until_ms(self._start_ms + self._plan.at_ms[position])
                await free.acquire()
                end = self._due_until(position)
                batch = publishing.create_task(self._publish(position, end))
                batches.add(batch)
                batch.add_done_callback(batches.discard)
                batch.add_done_callback(lambda _: free.release())
                position = end
                await self._clock.sleep_until_ms(self._clock.now_ms() + TURN_MS)
            while batches:
                await asyncio.wait(set(batches))
            reporter.cancel()
        self._progress(done=True)

    def _due_until(self, position: int) -> int:
        elapsed_ms = self._clock.now_ms() - self._start_ms
        due = int(np.searchsorted(self._plan.at_ms, elapsed_ms, side="right"))
        return min(max(due, position + 1), position + BATCH_REQUESTS_MAX)

    async def _publish(self, begin: int, end: int) -> None:
        await self._bus.publish([self._request(position) for position in range(begin, end)])
        models, now_ms = self._plan.models, self._clock.now_ms()
        self.acknowledged.update(models[at] for at in self._plan.model[begin:end])
        for position in range(begin, end):
            telemetry.SENT.labels(models[self._plan.model[position]]).inc()
            due_ms = self._start_ms + self._plan.at_ms[position]
            telemetry.LATENESS.observe(max(0.0, now_ms - due_ms) / 1000)

    def _request(self, position: int) -> Outgoing:
        plan = self._plan
        request = InferenceRequest(
            request_id=f"{self._run}-{position}",
            model=plan.models[plan.model[position]],
            due_at_ms=self._start_ms + int(plan.at_ms[position]),
            prompt_tokens=int(plan.prompt_tokens[position]),
            output_tokens=int(plan.output_tokens[position]),
        )
        name = request.request_id
        at_ms = self._clock.now_ms()
        return encode(INFERENCE_REQUESTS, name, request, self._origin, name, at_ms)

    async def _report(self) -> None:
        told = 0
        while True:
            await self._clock.sleep_until_ms(self._clock.now_ms() + PROGRESS_MS)
            if self.acknowledged.total() > told:  # an outage is no news each second
                told = self.acknowledged.total()
                self._progress(done=False)

    def _progress(self, *, done: bool) -> None:
        # Whoever started this process reads how far it is from these lines (see cli/stack.py).
        log.info("progress", acknowledged=dict(self.acknowledged), done=done)
