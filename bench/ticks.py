"""How long a tick of the scheduler takes, from one model to ten thousand: `python -m bench.ticks`.

Each size of fleet is decided for some seconds of its time. Between two ticks every forecast
changes, and a fifth of the nodes report anew. Nobody carries the orders out, so that loads stay on
their way. Printed are medians of CPU time on one core: of the arrays alone (`core/heart.py`), of
all of `decide` with its messages, and of the observation from the view.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.messages import (
    BatchLaw,
    DeviceSpec,
    FleetState,
    GpuState,
    ModelSpec,
    Objective,
    ReplicaState,
)
from services.scheduler.core import heart, moves
from services.scheduler.core.contracts import (
    QUANTILES,
    Observation,
    State,
    initial_state,
    past_of,
    seen_of,
)
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy, typed
from services.scheduler.core.replicas import replicas_of
from services.scheduler.observation import Sources, observe

T = TypeVar("T")

GB = 10**9
PERIOD_MS = 200
BEGIN_MS = 1_700_000_000_000
GPUS = 8  # of a node
TYPES = ("a100", "h100")
SIZES = ((1, 8), (100, 1_000), (10_000, 100_000))  # models, GPUs
TICKS = 40  # of each size; every tenth one places
REPORT_TICKS = 5
POLICY = typed(Policy())


class Took(NamedTuple):
    """CPU seconds of one tick, by part."""

    arrays: float
    decide: float
    observe: float
    messages: int


class Fleet:
    """Models on GPUs of two types, with a replica on two GPUs of five."""

    def __init__(self, models: int, gpus: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._replicas = max(2 * gpus // 5, 1)
        specs = [_model(f"m-{m:05d}") for m in range(models)]
        devices = [_device(gpu) for gpu in range(gpus)]
        self.sources = Sources(
            {spec.name: spec for spec in specs}, {device.device: device for device in devices}
        )
        names = list(self.sources.models)
        for node in range(-(-gpus // GPUS)):
            state = self._state(node, min(GPUS, gpus - node * GPUS), names)
            self.sources.fleet[state.node] = state
        for name in names:
            forecast = pb.LoadForecast(model=name, horizon_ms=[200, 10_000, 60_000])
            forecast.lead_time_ms["h100"] = 8000.0
            self.sources.forecasts[name] = forecast

    def change(self, tick: int, now_ms: int) -> None:
        """Let a tick pass: other loads on all models, and news of a fifth of the nodes."""
        each_rps = 70.0 * self._replicas / len(self.sources.forecasts)
        rates_rps = self._rng.uniform(0.5, 1.5, len(self.sources.forecasts)) * each_rps
        forecasts = self.sources.forecasts.values()
        for forecast, rate_rps in zip(forecasts, rates_rps.tolist(), strict=True):
            forecast.newest_sample_ms, forecast.next_by_ms = now_ms, now_ms + 300
            forecast.arrival_rate_rps, forecast.queue_requests = rate_rps, rate_rps / 50
            forecast.in_flight_requests, forecast.slo_ratio_p98 = rate_rps / 10, 0.8
            forecast.peak_10s_quantile_rps[:] = [rate_rps] * 3 * len(QUANTILES)
        for i, (node, state) in enumerate(self.sources.fleet.items()):
            if i % REPORT_TICKS == tick % REPORT_TICKS:
                self.sources.fleet[node] = state.model_copy(update={"at_ms": now_ms})

    def _state(self, node: int, gpus: int, models: list[str]) -> FleetState:
        first = node * GPUS
        held = {}
        for gpu in range(gpus):
            if (2 * (first + gpu)) % 5 < 2:
                model = models[2 * (first + gpu) // 5 % len(models)]
                held[gpu] = ReplicaState(
                    replica=f"{model}@n-{node:05d}:{gpu}",
                    model=model,
                    gpus=(gpu,),
                    state="resident",
                    memory_bytes=18 * GB,
                )
        free = {gpu: (62 if gpu in held else 80) * GB for gpu in range(gpus)}
        states = tuple(
            GpuState(gpu=gpu, memory_bytes_total=80 * GB, memory_bytes_free=free[gpu])
            for gpu in range(gpus)
        )
        return FleetState(
            node=f"n-{node:05d}", at_ms=BEGIN_MS, gpus=states, replicas=tuple(held.values())
        )


def _model(name: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        objective=Objective(latency_ms=200),
        weights_bytes=16 * GB,
        activation_bytes=2 * GB,
        request_bytes=GB,
        law={
            "a100": BatchLaw(alpha_ms=30, beta_ms=7),
            "h100": BatchLaw(alpha_ms=20, beta_ms=5),
        },
    )


def _device(gpu: int) -> DeviceSpec:
    node = gpu // GPUS
    return DeviceSpec(
        device=f"n-{node:05d}/{gpu % GPUS}",
        node=f"n-{node:05d}",
        gpu=gpu % GPUS,
        device_type=TYPES[node % 2],
        memory_bytes=80 * GB,
    )


def arrays_alone(state: State, seen: Observation) -> float:
    """Return the seconds of a tick's numbers, from the state that the last one left."""
    rows, past = seen_of(seen), past_of(state)
    _, replicas = replicas_of(state, seen)
    placing = seen.tick % POLICY.placement_every_ticks == 0
    begun = time.thread_time()
    if placing:
        heart.plan(past, rows, replicas, moves.digests_of((), seen), POLICY)
    heart.share(past, rows, replicas, POLICY, placing, seen.tick % POLICY.theta_every_ticks == 0)
    return time.thread_time() - begun


def ticks(models: int, gpus: int, count: int = TICKS) -> dict[int, Took]:
    """Return what each tick took; the first ten, in which all is new, are left out."""
    fleet, state = Fleet(models, gpus), initial_state()
    found = {}
    for tick in range(10 + count):
        now_ms = BEGIN_MS + tick * PERIOD_MS
        fleet.change(tick, now_ms)
        seen, observed = _timed(observe, fleet.sources, state, 1, tick, now_ms)
        alone = arrays_alone(state, seen) if tick else 0.0  # the first one has no state
        decision, decided = _timed(decide, state, seen, POLICY)
        state = decision.state
        said = len(decision.commands) + len(decision.tables) + len(decision.why)
        found[tick] = Took(alone, decided, observed, said)
    return {tick: took for tick, took in found.items() if tick >= 10}


def _timed(function: Callable[..., T], *args: Any) -> tuple[T, float]:
    begun = time.thread_time()
    result = function(*args)
    return result, time.thread_time() - begun


def main() -> None:
    """Measure and print."""
    print("us a tick (times that it fits into 200 ms)")
    print(f"{'models':>8}{'GPUs':>9} {'tick':<10}", end="")
    print(f"{'arrays':>20}{'decide':>20}{'observe':>20}{'messages':>10}")
    for models, gpus in SIZES:
        took = ticks(models, gpus)
        for kind, places in (("share", False), ("placement", True)):
            chosen = [t for tick, t in took.items() if (tick % 10 == 0) == places]
            print(f"{models:>8,}{gpus:>9,} {kind:<10}", end="")
            for part in ("arrays", "decide", "observe"):
                s = median(getattr(t, part) for t in chosen)
                print(f"{f'{s * 1e6:,.0f} ({PERIOD_MS / 1000 / s:,.0f} x)':>20}", end="")
            print(f"{median(t.messages for t in chosen):>10,.0f}")


if __name__ == "__main__":
    main()
