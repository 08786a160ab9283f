"""What may be seen of a fleet, and what is said of it: plain values, as they were at the call."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from libs.fleet import tables as t

STATES: dict[int, Literal["loading", "resident", "draining", "host"]] = {
    t.LOADING: "loading",
    t.RESIDENT: "resident",
    t.DRAINING: "draining",
    t.TO_HOST: "draining",
    t.IN_HOST: "host",
}
REASONS: dict[int, Literal["ordered", "out of memory", "failed"]] = {
    t.ORDERED: "ordered",
    t.OUT_OF_MEMORY: "out of memory",
    t.FAILED: "failed",
}


class FleetError(ValueError):
    """An order that the fleet cannot carry out; nothing has changed, and the text says why."""


class Loaded(NamedTuple):
    """A replica is resident."""

    at_ms: float
    replica: str
    load_ms: float  # since it was ordered


class Gone(NamedTuple):
    """A replica has left its GPUs."""

    at_ms: float
    replica: str
    reason: Literal["ordered", "out of memory", "failed"]


class ReplicaView(NamedTuple):
    """A replica as a policy may see it."""

    name: str  # model@node:0+1
    model: str
    node: str
    gpus: tuple[int, ...]
    state: Literal["loading", "resident", "draining", "host"]
    concurrency: int  # requests that the router may give it; 0: leave it to training
    held: int  # requests that it holds, waiting or running
    waiting: int  # those of them that do not run yet
    batch_size: int
    wait_ms: float
    serving_share: float
    ordered_ms: float
    kv_tokens_used: int
    kv_tokens: int
    prefill_tokens: int  # of the prompts that it holds, not computed yet

    @property
    def awake(self) -> bool:
        """Whether the router may send it requests."""
        return self.state == "resident" and self.concurrency > 0


class GpuView(NamedTuple):
    """A GPU: its memory, and its account in milliseconds since the start."""

    device: str
    node: str
    gpu: int
    device_type: str
    memory_bytes: int
    allocated_bytes: int  # truly taken
    job: str | None  # the training job that holds memory here
    serving_ms: float
    training_ms: float
    free_ms: float
    busy_serving_ms: float  # kernels of requests completed
    busy_training_ms: float  # kernels of steps kept
    steps: int  # kept; a gang's count on its first GPU
    out_of_memory: int


def replica_name(model: str, node: str, gpus: Sequence[int]) -> str:
    """Return `model@node:0+1`."""
    return f"{model}@{node}:{'+'.join(map(str, gpus))}"
