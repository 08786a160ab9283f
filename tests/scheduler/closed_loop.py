"""The whole loop in virtual time: the router and the fleet's model, a plain forecast, `decide`.

As in the running system, a sample is taken each 100 ms, a tick decides on each second one, and its
orders take effect 100 ms later. The forecast is a stand-in for the predictor of the same kind: a
slow estimate for the rate, and a fast one that counts where the slow one could hardly explain it.
"""

from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import PlaceReplica, SetBatch
from libs.common.wire import Origin
from libs.fleet.model import FleetModel
from libs.fleet.router import End, Request, Router
from libs.fleet.spec import read_fleet, read_models
from services.load.core.arrivals import Plan
from services.scheduler.core.contracts import QUANTILES, Decision, initial_state
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy
from services.scheduler.observation import observe
from services.scheduler.view import View

DEPLOY = Path(__file__).parents[2] / "deploy"
START_MS = 1_700_000_000_000
SAMPLE_MS = 100
SLOW_MS, FAST_MS, SURPRISE = 6000.0, 100.0, 3.0
LATENCY_WINDOW_MS = 6000


class Forecaster:
    """What is known of one model's load, from one sample to the next."""

    def __init__(self) -> None:
        self._slow_rps = 0.0
        self._fast_rps = 0.0
        self._ends: deque[End] = deque()

    def sample(
        self, model: str, at_ms: int, arrived: int, ends: Sequence[End], queue: int, running: int
    ) -> pb.LoadForecast:
        rate_rps = arrived * 1000 / SAMPLE_MS
        self._slow_rps += -np.expm1(-SAMPLE_MS / SLOW_MS) * (rate_rps - self._slow_rps)
        self._fast_rps += -np.expm1(-SAMPLE_MS / FAST_MS) * (rate_rps - self._fast_rps)
        noise_rps = np.sqrt((self._slow_rps + 5) * 5)  # of a Poisson count in about 200 ms
        burst = self._fast_rps > self._slow_rps + SURPRISE * noise_rps
        now_rps = max(self._slow_rps, self._fast_rps) if burst else self._slow_rps
        self._ends += ends
        while self._ends and self._ends[0].at_ms < at_ms - LATENCY_WINDOW_MS:
            self._ends.popleft()
        ratios = [end.latency_ms / end.objective_ms for end in self._ends]
        known = {"slo_ratio_p98": float(np.quantile(ratios, 0.98))} if ratios else {}
        forecast = pb.LoadForecast(
            model=model,
            at_ms=at_ms,
            newest_sample_ms=at_ms,
            next_by_ms=at_ms + 3 * SAMPLE_MS,
            arrival_rate_rps=now_rps,
            queue_requests=queue,
            in_flight_requests=running,
            horizon_ms=[15_000],
            # Of a plain spread: from 1.25 times the slow rate at the median to 1.5 times.
            peak_10s_quantile_rps=[self._slow_rps * (1 + 0.5 * q) for q in QUANTILES],
            **known,
        )
        forecast.lead_time_ms["h100"] = 12_000
        return forecast


class Loop:
    """The demo's fleet and models under a plan of arrivals."""

    def __init__(self, policy: Policy = Policy()) -> None:  # noqa: B008 - immutable
        specs = read_models(DEPLOY / "models.yaml")
        fleet_spec = read_fleet(DEPLOY / "fleet.yaml")
        self.fleet = FleetModel(fleet_spec, at_ms=START_MS)
        self.router = Router(self.fleet)
        for spec in specs:
            self.router.register(spec)
        self.view = View(MemoryBus(ManualClock()), Origin("scheduler", "test"))
        self.view.models = {spec.name: spec for spec in specs}
        self.view.devices = {device.device: device for device in fleet_spec.devices()}
        self.ends: Counter[str] = Counter()  # by status
        self.decisions: list[Decision] = []
        self.now_ms = START_MS
        self._policy = policy
        self._state = initial_state()
        self._forecasters = {spec.name: Forecaster() for spec in specs}
        self._pending: Decision | None = None  # published, and not yet read by the executor

    @property
    def steps(self) -> int:
        """Training steps kept."""
        return sum(gpu.steps for gpu in self.fleet.gpus.values())

    @property
    def out_of_memory(self) -> int:
        return sum(gpu.out_of_memory for gpu in self.fleet.gpus.values())

    def run(self, plan: Plan, duration_ms: float) -> None:
        """Play a plan from now on."""
        begin_ms = self.now_ms
        requests = [
            Request(str(i), plan.models[m], begin_ms + float(at_ms), (0, i))
            for i, (m, at_ms) in enumerate(zip(plan.model, plan.at_ms, strict=True))
        ]
        position = 0
        while self.now_ms < begin_ms + duration_ms:
            end = position
            while end < len(requests) and requests[end].due_at_ms <= self.now_ms + SAMPLE_MS:
                end += 1
            self._sample(requests[position:end])
            position = end

    def _sample(self, arrivals: Sequence[Request]) -> None:
        """Play 100 ms, make the forecasts, and on each second one a tick."""
        ends = []
        for request in arrivals:
            ends += self.router.turn(request.due_at_ms, [request]).ends
        self.now_ms += SAMPLE_MS
        ends += self.router.turn(self.now_ms).ends
        self.ends.update(end.status for end in ends)
        arrived = Counter(request.model for request in arrivals)
        for model, forecaster in self._forecasters.items():
            queue, running = self.router.queued(model), self.router.running(model)
            of_model = [end for end in ends if end.request.model == model]
            self.view.forecasts[model] = forecaster.sample(
                model, self.now_ms, arrived[model], of_model, queue, running
            )
        if self._pending is not None:
            self._apply(self._pending)
            self._pending = None
        news = self.fleet.nodes if self.now_ms % 1000 == 0 else self.fleet.take_changed()
        self.view.fleet.update((node, self.fleet.state_of(node)) for node in news)
        if self.now_ms % (2 * SAMPLE_MS) == 0:
            seen = observe(self.view, self._state, 1, len(self.decisions), self.now_ms)
            self._pending = decide(self._state, seen, self._policy)
            self._state = self._pending.state
            self.decisions.append(self._pending)

    def _apply(self, decision: Decision) -> None:
        for table in decision.tables:
            self.router.follow(table)
        for command in decision.commands:
            match command:
                case PlaceReplica(action="load"):
                    self.fleet.load(command.model, command.node, command.gpus, concurrency=0)
                case PlaceReplica():
                    self.fleet.drain(command.replica)
                case SetBatch():
                    self.fleet.set_batch(
                        command.replica,
                        command.batch_size,
                        command.wait_ms,
                        command.serving_share,
                    )
