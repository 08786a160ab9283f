"""How fast the fleet's model is: `python -m bench.speed`.

Four figures, each a ratio that is taken in one run on one core: an hour of a million requests for
a batch model under a policy that does nothing each 200 ms, against real time; the same hour under
the core that runs live; the same against SimPy, once both have given each request the same latency;
an hour of a chat trace, 20 times over, through LLM engines iteration by iteration.
"""

import csv
import gzip
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.load import Load
from bench.policies.ours import Ours
from bench.policies.policy import Setting
from bench.scenario import LoadSpec, Scenario
from libs.common import plimsoll_pb2 as pb
from libs.common.messages import BatchLaw, ModelSpec, Objective, StepLaw
from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from libs.fleet.spec import DeviceType, FleetSpec, NodeSpec

Floats = npt.NDArray[np.float64]

HOUR_MS, TICK_MS = 3_600_000.0, 200.0
REPLICAS, BATCH, ALPHA_MS, BETA_MS = 8, 8, 10.0, 2.0
GB = 10**9
CHAT = "azure_llm_2023_conv.csv.gz"
RUNS = 5


def fleet_spec(gpus: int, nodes: int) -> FleetSpec:
    """Return nodes of 80 GB GPUs."""
    node = NodeSpec(name="n", count=nodes, device_type="gpu", gpus=gpus, load_bytes_per_s=4e9)
    return FleetSpec(device_types={"gpu": DeviceType(memory_bytes=80 * GB)}, nodes=(node,))


# --- A batch model --------------------------------------------------------------------------------


def wishes(n: int, duration_ms: float, seed: int) -> Floats:
    """Return when n requests are due."""
    return np.sort(np.random.default_rng(seed).uniform(0, duration_ms, n))


def batch_fleet(due_ms: Floats) -> FleetModel:
    """Return eight replicas, each on its own GPU, and the requests on their way to the shortest."""
    model = ModelSpec(
        name="m",
        objective=Objective(latency_ms=200),
        weights_bytes=GB,
        request_bytes=GB,
        batch_max=BATCH,
        law={"gpu": BatchLaw(alpha_ms=ALPHA_MS, beta_ms=BETA_MS)},
    )
    fleet = FleetModel(fleet_spec(REPLICAS, 1), [model])
    for gpu in range(REPLICAS):
        fleet.place("m", "n-0", [gpu])
    fleet.set_router("m", "jsq")
    fleet.submit(Requests.of(due_ms, np.zeros(len(due_ms))))
    return fleet


def in_simpy(due_ms: Floats) -> tuple[Floats, float]:
    """Return the latencies by SimPy, in its plain style of a process a request, and seconds."""
    import simpy

    env = simpy.Environment()
    latency_ms = np.zeros(len(due_ms))
    held = [0] * REPLICAS
    queues: list[deque[Any]] = [deque() for _ in range(REPLICAS)]
    wakes = [env.event() for _ in range(REPLICAS)]

    def source() -> Generator[Any, Any, None]:
        for i, at_ms in enumerate(due_ms.tolist()):
            yield env.timeout(at_ms - env.now)
            env.process(request(i, at_ms))

    def request(i: int, at_ms: float) -> Generator[Any, Any, None]:
        r = min(range(REPLICAS), key=held.__getitem__)
        held[r] += 1
        served = env.event()
        queues[r].append(served)
        if not wakes[r].triggered:
            wakes[r].succeed()
        yield served
        latency_ms[i] = env.now - at_ms

    def replica(r: int) -> Generator[Any, Any, None]:
        while True:
            if not queues[r]:
                wakes[r] = env.event()
                yield wakes[r]
            batch = [queues[r].popleft() for _ in range(min(BATCH, len(queues[r])))]
            yield env.timeout(ALPHA_MS + BETA_MS * len(batch))
            held[r] -= len(batch)
            for served in batch:
                served.succeed()

    env.process(source())
    for r in range(REPLICAS):
        env.process(replica(r))
    begun = time.perf_counter()
    env.run(until=due_ms[-1] + 1000.0)
    return latency_ms, time.perf_counter() - begun


def in_the_model(
    due_ms: Floats, policy: Callable[[FleetModel], None] | None
) -> tuple[Floats, float]:
    """Return the latencies by the fleet's model, and seconds."""
    fleet = batch_fleet(due_ms)
    begun = time.perf_counter()
    if policy is None:
        fleet.advance(due_ms[-1] + 1000.0)
    else:
        fleet.run(due_ms[-1] + 1000.0, TICK_MS, policy)
    return fleet.latency_ms(), time.perf_counter() - begun


class Timed(Ours):
    """Our live core, and how long its predictor takes."""

    predicted = 0.0

    def fold(self, fleet: FleetModel, at_ms: int) -> None:
        """Do as `ours` does, by a stopwatch."""
        since = time.perf_counter()
        super().fold(fleet, at_ms)
        self.predicted += time.perf_counter() - since

    def forecasts(self) -> Mapping[str, pb.LoadForecast]:
        """Do as `ours` does, by a stopwatch."""
        since = time.perf_counter()
        said = super().forecasts()
        self.predicted += time.perf_counter() - since
        return said


class Took(NamedTuple):
    """Seconds of one run under the live core."""

    whole: float
    fleet: float
    predictor: float  # samples, their folding and the forecasts


def under_the_core(due_ms: Floats) -> Took:
    """Return what our live core takes, and its parts; what they leave is the scheduler's."""
    fleet = batch_fleet(due_ms)
    fleet.set_router("m", "first_fit")
    scenario = Scenario(
        about="speed",
        kind="smooth",
        duration_s=HOUR_MS / 1000,
        models=tuple(fleet.specs),
        fleet=fleet_spec(REPLICAS, 1),
        load={"m": LoadSpec(rate_rps=len(due_ms) / HOUR_MS * 1000, clients="poisson")},
    )
    core = Timed(Setting(scenario, {}, Load({}, due_ms[-1] / 1000), 1))
    begun = time.perf_counter()
    played = 0.0
    wake_ms = core.start(fleet)
    while wake_ms < due_ms[-1]:
        since = time.perf_counter()
        fleet.advance(wake_ms)
        played += time.perf_counter() - since
        wake_ms = core.wake(fleet)
    return Took(time.perf_counter() - begun, played, core.predicted)


# --- LLMs -----------------------------------------------------------------------------------------


def chat(path: Path, copies: int, seed: int) -> Requests:
    """Read the Azure trace, and lay copies over it, each shifted by up to a minute."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    at_ms = np.array([datetime.fromisoformat(row[0][:26]).timestamp() for row in rows]) * 1000
    tokens = np.array([row[1:3] for row in rows], np.int64)
    shift_ms = np.random.default_rng(seed).uniform(0, 60_000, copies)
    due_ms = (at_ms - at_ms[0])[None, :] + shift_ms[:, None]
    order = np.argsort(due_ms, axis=None, kind="stable")
    prompt, output = (np.tile(tokens[:, k], copies)[order] for k in (0, 1))
    return Requests.of(due_ms.ravel()[order], np.zeros(len(order)), prompt, output)


def chat_fleet(requests: Requests, units: int) -> FleetModel:
    """Return 8B replicas, one a GPU, by the law of the study beside the design."""
    law = StepLaw(base_ms=7.8, prefill_token_ms=0.035, decode_seq_ms=0.04, kv_token_ms=5.9e-5)
    model = ModelSpec(
        name="chat",
        kind="llm",
        objective=Objective(ttft_ms=1000, tpot_ms=25),
        weights_bytes=16 * GB,
        kv_bytes_per_token=131_072,
        kv_tokens=380_000,
        batch_max=256,
        law={"gpu": law},
    )
    fleet = FleetModel(fleet_spec(8, -(-units // 8)), [model])
    for unit in range(units):
        fleet.place("chat", f"n-{unit // 8}", [unit % 8])
    fleet.submit(requests)
    return fleet


# --- The figures ----------------------------------------------------------------------------------


def main(folder: Path) -> None:
    """Measure and print."""
    due_ms = wishes(1_000_000, HOUR_MS, seed=1)
    in_the_model(wishes(1000, 3600, seed=2), lambda fleet: None)  # compiles, or reads its cache
    ticked = median(in_the_model(due_ms, lambda fleet: None)[1] for _ in range(RUNS))
    print(f"1,000,000 requests in an hour, a policy each 200 ms: {HOUR_MS / 1000 / ticked:,.0f} x")
    under_the_core(due_ms[:10_000])  # compiles, or reads its cache
    live = under_the_core(due_ms)
    ticks = HOUR_MS / TICK_MS
    parts = (live.predictor, live.whole - live.fleet - live.predictor, live.fleet)
    predictor, scheduler, played = (f"{part / ticks * 1e6:,.0f}" for part in parts)
    print(
        f"the same under the live core: {HOUR_MS / 1000 / live.whole:,.0f} x; a tick takes "
        f"{predictor} us in the predictor, {scheduler} in the scheduler, {played} in the fleet"
    )
    ours_ms, alone = in_the_model(due_ms, None)
    alone = min(alone, *(in_the_model(due_ms, None)[1] for _ in range(RUNS)))
    try:
        plain_ms, plain = in_simpy(due_ms)
    except ImportError:
        print("SimPy is not installed: pip install -e '.[dev]'")
    else:
        assert np.abs(plain_ms - ours_ms).max() < 1e-6, "SimPy gives other latencies"
        print(f"the same against SimPy, {plain:.1f} s with equal latencies: {plain / alone:,.0f} x")
    if not (folder / CHAT).exists():
        print(f"{folder / CHAT} is absent: no figure for LLMs")
        return
    requests = chat(folder / CHAT, copies=20, seed=1)
    fleet = chat_fleet(requests, units=40)
    until_ms = requests.due_ms[-1]
    begun = time.perf_counter()
    fleet.run(until_ms, TICK_MS, lambda fleet: None)
    took = time.perf_counter() - begun
    iterations, ok = int(fleet.laws["iterations"].sum()), int(fleet.models["ok"][0])
    print(
        f"the chat trace x 20, {len(requests.due_ms):,} requests in {iterations:,} iterations, "
        f"{ok / len(requests.due_ms):.1%} within objective: {until_ms / 1000 / took:,.0f} x"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("../shared/traces/llm"))
