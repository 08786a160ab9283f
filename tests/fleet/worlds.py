"""Small fleets and models for the tests: one device type, round numbers."""

from typing import Any

from libs.common.messages import (
    BatchLaw,
    LoadTime,
    ModelSpec,
    Objective,
    Route,
    RoutingTable,
    StepLaw,
)
from libs.fleet.model import FleetModel, Gone, Loaded
from libs.fleet.router import Request
from libs.fleet.spec import DeviceType, FleetSpec, NodeSpec, TrainingSpec

GB = 10**9


def model(name: str = "m", alpha_ms: float = 10.0, beta_ms: float = 1.0, **given: Any) -> ModelSpec:
    """A model of 10 GB that loads in 1 s alone on its node."""
    fields: dict[str, Any] = {
        "objective": Objective(latency_ms=given.pop("objective_ms", 1000.0)),
        "weights_bytes": 9 * GB,
        "activation_bytes": GB,
        "request_bytes": GB,
        "batch_max": 64,
        "load": LoadTime(bytes=10 * GB),
        "law": {"gpu": BatchLaw(alpha_ms=alpha_ms, beta_ms=beta_ms)},
    }
    return ModelSpec(name=name, **(fields | given))


def job(name: str = "train", step_ms: float = 50.0, **given: Any) -> TrainingSpec:
    fields: dict[str, Any] = {"gpus": 1, "memory_bytes": 20 * GB, "steps": 1_000_000}
    return TrainingSpec(name=name, step_ms={"gpu": step_ms}, **(fields | given))


def spec(
    gpus: int = 2, nodes: int = 1, training: tuple[TrainingSpec, ...] = (), **given: Any
) -> FleetSpec:
    node: dict[str, Any] = {"name": "n", "count": nodes, "device_type": "gpu", "gpus": gpus}
    return FleetSpec(
        device_types={"gpu": DeviceType(memory_bytes=80 * GB)},
        nodes=(NodeSpec(**(node | {"load_bytes_per_s": 10 * GB} | given)),),
        training=training,
    )


def request(number: int, due_at_ms: float = 0.0, of: str = "m") -> Request:
    return Request(f"r{number}", of, due_at_ms, (0, number))


def fleet_of(spec: FleetSpec, *models: ModelSpec, switch_ms: float = 10.0) -> FleetModel:
    return FleetModel(spec, models, switch_ms=switch_ms)


def resident(
    fleet: FleetModel, served: str, *gpus: int, batch: int = 1, wait_ms: float = 0.0
) -> str:
    """Load a replica, wait for it, and let it serve with no time left to training."""
    name = fleet.load(served, "n-0", gpus or (0,))
    while fleet.replicas[name].state == "loading":
        fleet.advance(fleet.next_event_ms())
    fleet.set_batch(name, batch, wait_ms, serving_share=1.0)
    return name


def table(
    of: str, *routes: tuple[str, int], epoch: int = 1, tick: int = 0, theta: float = 0.7
) -> RoutingTable:
    named = tuple(Route(replica=name, concurrency=n) for name, n in routes)
    return RoutingTable(model=of, epoch=epoch, tick=tick, theta=theta, replicas=named)


def of_kind(events: list[Loaded | Gone], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def llm(name: str = "m", **given: Any) -> ModelSpec:
    """An LLM of 10 GB with a KV cache of 20,000 tokens."""
    law = {"base_ms": 8.0, "prefill_token_ms": 0.035, "decode_seq_ms": 0.04, "kv_token_ms": 6e-5}
    fields: dict[str, Any] = {
        "kind": "llm",
        "objective": Objective(
            ttft_ms=given.pop("ttft_ms", 1000.0), tpot_ms=given.pop("tpot_ms", 25.0)
        ),
        "weights_bytes": 9 * GB,
        "activation_bytes": GB,
        "kv_bytes_per_token": 100_000,
        "kv_tokens": 20_000,
        "batch_max": 64,
        "load": LoadTime(bytes=10 * GB),
        "law": {"gpu": StepLaw(**(law | given.pop("law", {})))},
    }
    return ModelSpec(name=name, **(fields | given))
