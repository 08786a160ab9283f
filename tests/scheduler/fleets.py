"""A small fleet on paper: it does what a tick orders, and shows the next tick the result."""

import math
from typing import Any

from libs.common import plimsoll_pb2 as pb
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import (
    BatchLaw,
    DeviceSpec,
    FleetState,
    GpuState,
    ModelSpec,
    Objective,
    PlaceReplica,
    ReplicaState,
)
from libs.common.wire import Origin
from services.scheduler.core.contracts import Decision, Observation, initial_state
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy
from services.scheduler.observation import observe
from services.scheduler.view import View

GB = 10**9
START_MS = 1_700_000_000_000
QUANTILES = 6


def a_model(name: str = "chat", **changes: object) -> ModelSpec:
    """s(b) = 20 + 5 b ms within 200 ms: batches up to 10, so 143 requests/s, 100 at 70 %."""
    fields: dict[str, object] = {
        "name": name,
        "objective": Objective(latency_ms=200),
        "weights_bytes": 16 * GB,
        "activation_bytes": 2 * GB,
        "request_bytes": GB,
        "batch_max": 32,
        "law": {"h100": BatchLaw(alpha_ms=20, beta_ms=5)},
    }
    return ModelSpec.model_validate({**fields, **changes})


def a_forecast(
    model: str, at_ms: int, rate_rps: float, *, peak_rps: float = 0.0, **fields: float
) -> pb.LoadForecast:
    """A forecast made of a sample taken at `at_ms`, which holds for 300 ms."""
    forecast = pb.LoadForecast(
        model=model,
        at_ms=at_ms,
        newest_sample_ms=at_ms,
        next_by_ms=at_ms + 300,
        arrival_rate_rps=rate_rps,
        horizon_ms=[200, 10_000, 60_000],
        peak_10s_quantile_rps=[max(peak_rps, rate_rps)] * 3 * QUANTILES,
        **fields,  # type: ignore[arg-type]
    )
    forecast.lead_time_ms["h100"] = 8000
    return forecast


def some_devices(nodes: int, gpus: int, memory_bytes: int = 80 * GB) -> list[DeviceSpec]:
    return [
        DeviceSpec(
            device=f"n-{node}/{gpu}",
            node=f"n-{node}",
            gpu=gpu,
            device_type="h100",
            memory_bytes=memory_bytes,
        )
        for node in range(nodes)
        for gpu in range(gpus)
    ]


NO_STANDBYS = Policy(standby_memory_share=0.0)


class Fleet:
    """Models, GPUs and their replicas. Loads take `load_ticks`; drains are over at once.

    Nobody stands by unless `policy` says so: tests can then count what the targets ask for.
    """

    def __init__(
        self,
        *models: ModelSpec,
        nodes: int = 2,
        gpus: int = 4,
        load_ticks: int = 1,
        policy: Policy = NO_STANDBYS,
    ) -> None:
        self.policy = policy
        self.view = View(MemoryBus(ManualClock()), Origin("scheduler", "test"))
        self.view.models = {model.name: model for model in models}
        self.view.devices = {d.device: d for d in some_devices(nodes, gpus)}
        self.state = initial_state()
        self.now_ms = START_MS
        self.tick = 0
        self.deaf = False  # takes no orders
        self._load_ticks = load_ticks
        self._replicas: dict[str, tuple[PlaceReplica, int]] = {}  # with the tick of its order
        self._models = dict(self.view.models)  # of replicas, even when it has left the registry

    def offer(self, model: str, rate_rps: float, **fields: float) -> None:
        """Let a forecast come in with this arrival rate."""
        self.view.forecasts[model] = a_forecast(model, self.now_ms, rate_rps, **fields)

    def observe(self) -> Observation:
        self._report()
        return observe(self.view, self.state, 7, self.tick, self.now_ms)

    def step(self, policy: Policy | None = None) -> Decision:
        """Make one tick, carry its orders out, and go on 200 ms."""
        decision = decide(self.state, self.observe(), policy or self.policy)
        self.state = decision.state
        for command in decision.commands:
            if isinstance(command, PlaceReplica) and not self.deaf:
                self._carry_out(command)
        self.tick += 1
        self.now_ms += 200
        return decision

    def run(self, seconds: float, rates: dict[str, float], **fields: float) -> list[Decision]:
        """Make the ticks of some seconds at steady rates."""
        decisions = []
        for _ in range(round(seconds * 5)):
            for model, rate in rates.items():
                self.offer(model, rate, **fields)
            decisions.append(self.step())
        return decisions

    def replicas_of(self, model: str) -> list[str]:
        return sorted(r for r, (order, _) in self._replicas.items() if order.model == model)

    def lose(self, replica: str) -> None:
        """Let a replica vanish, as after an out-of-memory kill."""
        del self._replicas[replica]

    def reserved_bytes(self) -> dict[str, int]:
        """What weights, activations and the largest batches ordered take of each GPU, at most."""
        batch = dict(zip(self.state.replicas, self.state.batch_size.tolist(), strict=True))
        used = dict.fromkeys(self.view.devices, 0)
        for name, (order, _) in self._replicas.items():
            model = self.view.models[order.model]
            of_batches = model.request_bytes * max(1, batch.get(name, 1))
            whole = model.weights_bytes + model.activation_bytes + of_batches
            for gpu in order.gpus:
                used[f"{order.node}/{gpu}"] += math.ceil(whole / len(order.gpus))
        return used

    def _carry_out(self, order: PlaceReplica) -> None:
        self._models.update(self.view.models)
        if order.action == "load":
            assert order.replica not in self._replicas, order
            self._replicas[order.replica] = (order, self.tick)
        else:
            del self._replicas[order.replica]

    def _report(self) -> None:
        for node in sorted({device.node for device in self.view.devices.values()}):
            here = [(o, t) for o, t in self._replicas.values() if o.node == node]
            self.view.fleet[node] = FleetState(
                node=node,
                at_ms=self.now_ms,
                gpus=tuple(
                    GpuState(
                        gpu=device.gpu,
                        memory_bytes_total=device.memory_bytes,
                        memory_bytes_free=device.memory_bytes - self._static(here, device.gpu),
                    )
                    for device in self.view.devices.values()
                    if device.node == node
                ),
                replicas=tuple(
                    ReplicaState(
                        replica=order.replica,
                        model=order.model,
                        gpus=order.gpus,
                        state="loading" if self.tick - t < self._load_ticks else "resident",
                        memory_bytes=self._bytes(order),
                    )
                    for order, t in here
                ),
            )

    def _static(self, here: list[tuple[PlaceReplica, int]], gpu: int) -> int:
        return sum(math.ceil(self._bytes(o) / len(o.gpus)) for o, _ in here if gpu in o.gpus)

    def _bytes(self, order: PlaceReplica) -> int:
        model = self._models[order.model]
        return model.weights_bytes + model.activation_bytes


def of_kind(decisions: list[Decision], kind: Any) -> list[Any]:
    """All commands of one kind."""
    return [c for decision in decisions for c in decision.commands if isinstance(c, kind)]


def moves_of(decisions: list[Decision]) -> list[tuple[str, str]]:
    """All placements, as (action, replica)."""
    return [(c.action, c.replica) for c in of_kind(decisions, PlaceReplica)]
