"""The very core that runs live: samples, the predictor's core, forecasts, the scheduler's `decide`.

As in the running system a sample of the router's counters is taken each 100 ms, a tick decides on
each second one, and its orders reach the fleet with the live loop's measured delay, sample to
order: about 110 ms in the median and 150 ms in the 99th percentile (`plimsoll demo`, loop latency).
Nothing here decides: it plays the part of the bus.
"""

from collections.abc import Mapping

import numpy as np
from numba import njit

from bench.errors import NONE, Errors, believed
from bench.load import Floats
from bench.policies.policy import Setting, Stopwatch
from libs.common import plimsoll_pb2 as pb
from libs.common import series, wire
from libs.common.messages import PlaceReplica, SetBatch
from libs.fleet.model import FleetError, FleetModel
from libs.fleet.tables import LLM, Table
from services.predictor.core import partition
from services.predictor.core.partition import Partition
from services.predictor.core.registry import Registry
from services.predictor.core.source import Policy as PredictorPolicy
from services.predictor.core.source import Sight
from services.scheduler.core.contracts import Decision, initial_state
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy as SchedulerPolicy
from services.scheduler.observation import Sources, observe

# The cores count in epoch milliseconds, so that no time is 0.
EPOCH_MS = 1_700_000_000_000
SAMPLE_MS = 100
TICK_EVERY = 2  # samples
PERIODS = 3  # samples missed before a source is stale
REPORT_MS = 1000  # a node says what is on it on change, and each second
# Sample to order: log-normal with this median and 99th percentile.
DELAY_MS_P50, DELAY_MS_P99 = 110.0, 150.0
DELAY_SIGMA = np.log(DELAY_MS_P99 / DELAY_MS_P50) / 2.326
SOURCE = "router/0"
OF_MODEL = (
    (series.ARRIVALS, "arrivals"),
    (series.ENDS_OK, "ok"),
    (series.ENDS_LATE, "late"),
    (series.QUEUE, "queue"),
    (series.IN_FLIGHT, "in_flight"),
    (series.PROMPT_TOKENS, "prompt_tokens"),
    (series.OUTPUT_TOKENS, "output_tokens"),
)
OF_PAIR = (
    (series.BATCHES, "batches"),
    (series.BATCH_REQUESTS, "requests"),
    (series.BATCH_SERVICE_MS, "service_ms"),
    (series.BATCH_REQUESTS_SQUARED, "requests_squared"),
    (series.BATCH_CROSS, "cross"),
    (series.LOADS, "loads"),
    (series.LOAD_MS, "load_ms"),
)


class Ours:
    """One leader, one predictor, and a bus that loses nothing."""

    def __init__(
        self,
        setting: Setting,
        policy: SchedulerPolicy = SchedulerPolicy(),  # noqa: B008 - immutable
        errors: Errors = NONE,
    ) -> None:
        self.decide_us: list[float] = []
        self._errors = errors
        self._policy = policy
        self._predictor_policy = PredictorPolicy()
        specs = {spec.name: believed(spec, errors) for spec in setting.scenario.models}
        devices = {device.device: device for device in setting.scenario.fleet.devices()}
        self._registry = Registry(specs, devices)
        self._sources = Sources(specs, devices)
        self._partition = Partition({})
        self._state = initial_state()
        self._tick = 0
        self._rng = np.random.default_rng([setting.seed, 0x0DE1A7])
        self._pending: list[tuple[float, Decision]] = []  # published, and not yet read
        self._sample_ms = 0.0

    def start(self, fleet: FleetModel) -> float:
        """Announce the layout; the first sample says where the counters stand."""
        # Until the first tick's table has come, the router has none, and gives to whom it likes.
        self._layout = _layout(fleet)
        for spec in fleet.specs:
            fleet.set_belief(spec.name, 1 + self._errors.law)
        return self._sample(fleet)

    def wake(self, fleet: FleetModel) -> float:
        """Carry out what has come, and take the sample that is due."""
        while self._pending and self._pending[0][0] <= fleet.now_ms:
            self._carry_out(fleet, self._pending.pop(0)[1])
        if self._sample_ms <= fleet.now_ms:
            return self._sample(fleet)
        return self._next_ms()

    def forecasts(self) -> Mapping[str, pb.LoadForecast]:
        """Return what the predictor says now, by model."""
        said = partition.forecasts(self._partition, 0, self._predictor_policy)
        if not self._errors.learns:
            for forecast in said.forecasts:
                forecast.law.clear()
        return {forecast.model: forecast for forecast in said.forecasts}

    def _next_ms(self) -> float:
        coming_ms = self._pending[0][0] if self._pending else self._sample_ms
        return min(self._sample_ms, coming_ms)

    def _sample(self, fleet: FleetModel) -> float:
        at_ms = EPOCH_MS + round(fleet.now_ms)
        self.fold(fleet, at_ms)
        if at_ms % (TICK_EVERY * SAMPLE_MS) == 0:
            self._decide(fleet, at_ms)
        self._sample_ms += SAMPLE_MS
        return self._next_ms()

    def fold(self, fleet: FleetModel, at_ms: int) -> None:
        """Take a sample, and let the predictor take it in."""
        values = _values(fleet.models, fleet.latency_ratio, fleet.ttft_ratio, fleet.laws)
        sight = Sight(self._layout, SOURCE, at_ms, at_ms + PERIODS * SAMPLE_MS, values)
        self._partition, _ = partition.step(
            self._partition, sight, self._registry, self._predictor_policy, at_ms
        )

    def _decide(self, fleet: FleetModel, at_ms: int) -> None:
        self._sources.forecasts.update(self.forecasts())
        changed = set(fleet.take_changed())
        for node in fleet.nodes if at_ms % REPORT_MS == 0 else sorted(changed):
            state = fleet.state_of(node)
            self._sources.fleet[node] = state.model_copy(update={"at_ms": at_ms})
        with Stopwatch(self.decide_us):
            seen = observe(self._sources, self._state, 1, self._tick, at_ms)
            decision = decide(self._state, seen, self._policy)
        self._state = decision.state
        self._tick += 1
        delay_ms = DELAY_MS_P50 * np.exp(DELAY_SIGMA * self._rng.standard_normal())
        # A later tick's orders do not overtake: one partition keeps its order.
        last_ms = self._pending[-1][0] if self._pending else 0.0
        self._pending.append((max(last_ms, fleet.now_ms + float(delay_ms)), decision))

    def _carry_out(self, fleet: FleetModel, decision: Decision) -> None:
        for table in decision.tables:
            fleet.follow(table)
        for command in decision.commands:
            try:
                match command:
                    case PlaceReplica(action="load"):
                        fleet.load(command.model, command.node, command.gpus, concurrency=0)
                    case PlaceReplica():
                        fleet.drain(command.replica)
                    case SetBatch():
                        fleet.set_batch(
                            command.replica,
                            command.batch_size,
                            command.wait_ms,
                            command.serving_share,
                        )
            except (FleetError, KeyError):
                # Refused, as by an executor whose fleet has changed since.
                self._sources.failures.append(command.id)


def _layout(fleet: FleetModel) -> pb.Layout:
    """Return the series of all models, in the order of `_values`."""
    found = []
    for spec in fleet.specs:
        name = spec.name
        found += [pb.Series(metric=metric, model=name) for metric, _ in OF_MODEL]
        found += [
            pb.Series(metric=series.LATENCY_RATIO, model=name, bucket=bucket)
            for bucket in range(series.LATENCY_BUCKETS)
        ]
        found += [
            pb.Series(metric=metric, model=name, device_type=device_type)
            for device_type in fleet.device_types
            for metric, _ in OF_PAIR
        ]
    return wire.layout_of(SOURCE, found)


@njit(cache=True)
def _values(models: Table, latency: Table, ttft: Table, laws: Table) -> Floats:
    """Return a sample of all models; the fields are those of `OF_MODEL` and `OF_PAIR`."""
    buckets, kinds = latency.shape[1], laws.shape[1]
    row = 7 + buckets + 7 * kinds
    values = np.empty(len(models) * row)
    for m in range(len(models)):
        model, at = models[m], m * row
        values[at] = model.arrivals
        values[at + 1] = model.ok
        values[at + 2] = model.late
        values[at + 3] = model.queue
        values[at + 4] = model.in_flight
        values[at + 5] = model.prompt_tokens
        values[at + 6] = model.output_tokens
        # Of an LLM, theta steers the first token; its tokens' pace is the engine's to keep.
        ratio = ttft[m] if model.kind == LLM else latency[m]
        values[at + 7 : at + 7 + buckets] = ratio
        for t in range(kinds):
            law, at = laws[m, t], m * row + 7 + buckets + 7 * t
            values[at] = law.batches
            values[at + 1] = law.requests
            values[at + 2] = law.service_ms
            values[at + 3] = law.requests_squared
            values[at + 4] = law.cross
            values[at + 5] = law.loads
            values[at + 6] = law.load_ms
    return values
