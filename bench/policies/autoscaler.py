"""What all autoscalers share: samples that come late, a number of replicas, pods made or removed.

Each model has a scaler of its own, which sees samples and names a number. Everything else is the
same for all: whole GPUs for a replica, requests to the replica with the shortest queue (no real
load balancer is better at this), batches no larger than two of which in a row meet the objective.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from bench.full import Full
from bench.places import Places
from bench.policies.policy import Setting, Stopwatch
from libs.common.messages import ModelSpec
from libs.fleet.model import FleetModel, ReplicaView


class Sample(NamedTuple):
    """One scrape of one model."""

    at_ms: float
    queue: int  # requests not yet running, wherever they wait
    in_flight: int  # running
    arrivals: int  # since the start
    ready: int  # replicas that serve


class Scaler(Protocol):
    """The rule of one autoscaler for one model. Times are ms; its class says how it samples."""

    scrape_every_ms: float
    scrape_at_ms: float  # of the first scrape: where in the period it lies
    delay_ms: float  # from the scrape until the rule can see it
    decide_every_ms: float

    def see(self, sample: Sample) -> None:
        """Take in a sample, at the time it can be seen."""
        ...

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; `replicas` are there, of which `ready` serve."""
        ...


class Bounds(NamedTuple):
    """Between which numbers of replicas a scaler may choose."""

    low: int
    high: int

    def clip(self, wanted: int) -> int:
        """Return the number nearest to `wanted` that is allowed."""
        return min(max(wanted, self.low), self.high)


MakeScaler = Callable[[Full, Bounds], Scaler]


class Autoscaler:
    """A policy made of one scaler a model."""

    def __init__(self, setting: Setting, make: MakeScaler) -> None:
        self.decide_us: list[float] = []
        self._full = setting.full
        self._specs = {spec.name: spec for spec in setting.scenario.models}
        self._scalers = {
            name: make(setting.full[name], bounds_of(spec, setting))
            for name, spec in self._specs.items()
        }
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
            self._coming.append((now_ms + self._delay_ms, _scrape(fleet, list(self._specs))))
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


def bounds_of(spec: ModelSpec, setting: Setting) -> Bounds:
    """Return the model's bounds, and the fleet's where the model names none."""
    groups = sum(
        node.count * (node.gpus // spec.gpus)
        for node in setting.scenario.fleet.nodes
        if node.device_type in spec.law
    )
    return Bounds(spec.replicas_min, min(spec.replicas_max, groups))


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


def _scrape(fleet: FleetModel, models: list[str]) -> dict[str, Sample]:
    table = fleet.models
    return {
        name: Sample(
            fleet.now_ms,
            int(table["queue"][m]),
            int(table["in_flight"][m]),
            int(table["arrivals"][m]),
            sum(replica.state == "resident" for replica in fleet.replicas_of(name)),
        )
        for m, name in enumerate(models)
    }
