"""What all autoscalers share: samples that come late, a number of replicas, pods made or removed.

Each model has a scaler of its own, which sees samples and names a number. Everything else is the
same for all: whole GPUs for a replica, requests to the replica with the shortest queue (no real
load balancer is better at this), batches no larger than two of which in a row meet the objective.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from bench.full import Full
from bench.places import Places
from bench.policies.policy import Setting, Stopwatch
from libs.common.messages import ModelSpec
from libs.fleet.model import FleetModel, ReplicaView

Floats = npt.NDArray[np.float64]


class Engine(NamedTuple):
    """What a scrape says of one replica that serves."""

    running: int
    waiting: int  # requests that it holds and that do not run yet
    kv_share: float = 0.0  # of its KV cache that is taken; 0 of a batch model
    prefill_tokens: int = 0  # of the prompts that it holds, not computed yet


class Sample(NamedTuple):
    """One scrape of one model."""

    at_ms: float
    queue: int  # requests not yet running, wherever they wait
    in_flight: int  # running
    arrivals: int  # since the start
    ready: int  # replicas that serve
    ended: int = 0  # requests served since the start, and their tokens, each a sum
    prompt_tokens: int = 0
    output_tokens: int = 0
    # Of requests served, by latency / objective (LLMs: time to first token), in the router's log
    # buckets, since the start; see `libs.common.series.LATENCY_RATIO_EDGES`.
    ratios: tuple[int, ...] = ()
    iterations: int = 0  # of an LLM's engines, since the start, and how long they took together
    iterations_ms: float = 0.0
    engines: tuple[Engine, ...] = ()


class Bounds(NamedTuple):
    """Between which numbers of replicas a scaler may choose."""

    low: int
    high: int

    def clip(self, wanted: int) -> int:
        """Return the number nearest to `wanted` that is allowed."""
        return min(max(wanted, self.low), self.high)


class Case(NamedTuple):
    """What the operator of a scaler knows of the model before a run."""

    spec: ModelSpec
    full: Full  # one replica at its limit, as a load test would show
    bounds: Bounds
    past_rps: Floats = np.zeros(0)  # arrivals of the days before, a mean a minute, oldest first


class Scaler(Protocol):
    """The rule of one autoscaler for one model. Times are ms; its class says how it samples.

    What an operator may set is a NamedTuple, whose defaults are the peer's own.
    """

    variants: ClassVar[Mapping[str, Any]]  # settings by the variant's name; "default" is the first
    tried: ClassVar[Sequence[Any]]  # the settings, at most 30, of which tuning takes the best

    scrape_every_ms: float
    scrape_at_ms: float  # of the first scrape: where in the period it lies
    delay_ms: float  # from the scrape until the rule can see it
    decide_every_ms: float

    def __init__(self, case: Case, setting: Any) -> None: ...

    def see(self, sample: Sample) -> None:
        """Take in a sample, at the time it can be seen."""
        ...

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; `replicas` are there, of which `ready` serve."""
        ...


MakeScaler = Callable[[Case], Scaler]


class Autoscaler:
    """A policy made of one scaler a model."""

    def __init__(self, setting: Setting, make: MakeScaler) -> None:
        self.decide_us: list[float] = []
        self._full = setting.full
        self._specs = {spec.name: spec for spec in setting.scenario.models}
        self._scalers = {name: make(case_of(spec, setting)) for name, spec in self._specs.items()}
        first = next(iter(self._scalers.values()))
        self._every_ms = (first.scrape_every_ms, first.decide_every_ms)
        self._delay_ms = first.delay_ms
        self._scrape_ms = first.scrape_at_ms or first.scrape_every_ms
        self._decide_ms = first.decide_every_ms
        self._coming: deque[tuple[float, dict[str, Sample]]] = deque()

    def start(self, fleet: FleetModel) -> float:
        """Set the router and the batches of what is there."""
        self._places = Places(fleet)
        for name in self._specs:
            fleet.set_router(name, "jsq")
        for replica in fleet.replicas:
            configure(fleet, replica, self._full)
        return self._next_ms()

    def wake(self, fleet: FleetModel) -> float:
        """Scrape, deliver and decide: whatever is due now, in this order."""
        now_ms = fleet.now_ms
        if self._scrape_ms <= now_ms:
            self._coming.append((now_ms + self._delay_ms, scrape(fleet, list(self._specs))))
            self._scrape_ms += self._every_ms[0]
        while self._coming and self._coming[0][0] <= now_ms:
            for name, sample in self._coming.popleft()[1].items():
                self._scalers[name].see(sample)
        if self._decide_ms <= now_ms:
            for spec in self._specs.values():
                self._scale(fleet, spec)
            self._decide_ms += self._every_ms[1]
        return self._next_ms()

    def _next_ms(self) -> float:
        coming_ms = self._coming[0][0] if self._coming else self._decide_ms
        return min(self._scrape_ms, self._decide_ms, coming_ms)

    def _scale(self, fleet: FleetModel, spec: ModelSpec) -> None:
        there = staying(fleet, spec.name)
        ready = sum(replica.state == "resident" for replica in there)
        with Stopwatch(self.decide_us):
            wanted = self._scalers[spec.name].desired(fleet.now_ms, len(there), ready)
        scale(fleet, self._places, spec, there, wanted, self._full)


def case_of(spec: ModelSpec, setting: Setting) -> Case:
    """Return what is known of a model; its bounds, and the fleet's where it names none."""
    groups = sum(
        node.count * (node.gpus // spec.gpus)
        for node in setting.scenario.fleet.nodes
        if node.device_type in spec.law
    )
    bounds = Bounds(spec.replicas_min, min(spec.replicas_max, groups))
    # Of the load only what came before: what comes is the clairvoyant's.
    past_rps = setting.load.past_rps.get(spec.name, np.zeros(0))
    return Case(spec, setting.full[spec.name], bounds, past_rps)


def staying(fleet: FleetModel, model: str) -> list[ReplicaView]:
    """Return a model's replicas that serve or load, oldest first."""
    views = fleet.replicas_of(model)
    return [replica for replica in views if replica.state in ("loading", "resident")]


def scale(
    fleet: FleetModel,
    places: Places,
    spec: ModelSpec,
    there: list[ReplicaView],
    wanted: int,
    full: dict[str, Full],
) -> None:
    """Order what is missing, or remove what is too much: those that load first, then the newest."""
    for _ in range(wanted - len(there)):
        name = places.load(spec)
        if name is None:
            return
        configure(fleet, name, full)
    if wanted < len(there):
        order = sorted(there, key=lambda r: (r.state == "resident", -r.ordered_ms))
        for replica in order[: len(there) - wanted]:
            fleet.drain(replica.name)


def configure(fleet: FleetModel, replica: str, full: dict[str, Full]) -> None:
    """Give a replica the batch size that an operator would set: an LLM's engine needs none."""
    model = replica.rpartition("@")[0]
    if fleet.specs[fleet.model_index[model]].kind == "batch":
        fleet.set_batch(replica, full[model].batch, 0.0, 1.0)


def scrape(fleet: FleetModel, models: Sequence[str]) -> dict[str, Sample]:
    """Return what a scrape at this moment shows, by model."""
    table, laws = fleet.models, fleet.laws
    found = {}
    for m, name in enumerate(models):
        llm = fleet.specs[m].kind == "llm"
        serving = [r for r in fleet.replicas_of(name) if r.state == "resident"]
        found[name] = Sample(
            fleet.now_ms,
            int(table["queue"][m]),
            int(table["in_flight"][m]),
            int(table["arrivals"][m]),
            len(serving),
            int(table["ok"][m] + table["late"][m]),
            int(table["prompt_tokens"][m]),
            int(table["output_tokens"][m]),
            tuple((fleet.ttft_ratio if llm else fleet.latency_ratio)[m].tolist()),
            int(laws["iterations"][m].sum()),
            float(laws["iteration_ms"][m].sum()),
            tuple(map(_engine, serving)),
        )
    return found


def _engine(replica: ReplicaView) -> Engine:
    kv_share = replica.kv_tokens_used / max(1, replica.kv_tokens)
    running = replica.held - replica.waiting
    return Engine(running, replica.waiting, kv_share, replica.prefill_tokens)
