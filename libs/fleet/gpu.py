"""The parts of a fleet: GPUs, the replicas on them, what runs, and whom each second is charged to.

These keep state and sums; what happens when is decided in `fleet.py`.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from libs.common.messages import BatchLaw, ModelSpec
from libs.fleet.events import Request
from libs.fleet.training import Job


@dataclass(slots=True, eq=False)
class Replica:
    """One instance of a model on one or more GPUs of a node."""

    name: str  # model@node:0+1
    spec: ModelSpec
    law: BatchLaw  # on its device type
    gpus: tuple["Gpu", ...]
    ordered_ms: float
    state: Literal["loading", "resident", "draining", "gone"] = "loading"
    # Until the scheduler has set them: one request at a time, none from the router.
    batch_size: int = 1
    wait_ms: float = 0.0
    serving_share: float = 1.0
    concurrency: int = 0
    queue: deque[tuple[float, Request]] = field(default_factory=deque)  # with time of dispatch
    running: int = 0
    has_memory: bool = False

    @property
    def memory_bytes(self) -> int:
        """Weights and activations, over all its GPUs."""
        return self.spec.weights_bytes + self.spec.activation_bytes

    @property
    def memory_bytes_per_gpu(self) -> int:
        """Its part of each of its GPUs."""
        return -(-self.memory_bytes // len(self.gpus))

    @property
    def awake(self) -> bool:
        """Whether the router may send it requests."""
        return self.state == "resident" and self.concurrency > 0

    def service_ms(self, batch_size: int) -> float:
        """Return s(b) = alpha + beta x b."""
        return self.law.alpha_ms + self.law.beta_ms * batch_size

    def batch_bytes_per_gpu(self, batch_size: int) -> int:
        """Return what a batch needs beside the weights, on each of its GPUs."""
        return -(-batch_size * self.spec.request_bytes // len(self.gpus))

    def ready_ms(self) -> float:
        """Return when its next batch may start: when full, or when the oldest waited enough."""
        oldest_ms = self.queue[0][0]
        return oldest_ms if len(self.queue) >= self.batch_size else oldest_ms + self.wait_ms

    def waiting_ms(self) -> float:
        """Return the compute that its waiting requests will take, in full batches but the last."""
        full, rest = divmod(len(self.queue), self.batch_size)
        return full * self.service_ms(self.batch_size) + (self.service_ms(rest) if rest else 0.0)


@dataclass(slots=True, eq=False)
class Run:
    """What occupies the compute engine of one or more GPUs: a batch or a training step."""

    gpus: tuple["Gpu", ...]
    work_from_ms: float  # a switch between training and serving comes before
    ends_ms: float
    replica: Replica | None = None  # None: a training step
    requests: tuple[Request, ...] = ()


@dataclass(slots=True, eq=False)
class Gpu:
    """One GPU: memory, one compute engine, and its account of time.

    Every millisecond is charged to exactly one of serving, training and free. *Serving*: requests
    or a batch are here, it switches, or a model holds it while no step runs, or a job that has to
    go saves its state. *Training*: a step runs and no request is here. *Free*: the rest.
    """

    device: str
    node: str
    index: int
    device_type: str
    memory_bytes: int
    settled_ms: float
    started_ms: float  # when its node runs; no step before
    replicas: list[Replica] = field(default_factory=list)
    run: Run | None = None
    job: Job | None = None  # holds its memory between steps
    evicting: bool = False  # the job gives its memory back: no more steps, a checkpoint, then gone
    batch_bytes: int = 0
    requests: int = 0  # waiting or running on it
    last: Literal["serving", "training"] | None = None  # what ran last; the other pays a switch
    step_from_ms: float = float("-inf")  # of the last step, with its switches
    step_cost_ms: float = 0.0
    look_ms: float = float("inf")  # when `fleet.py` will look at it next
    serving_ms: float = 0.0
    training_ms: float = 0.0
    free_ms: float = 0.0
    busy_serving_ms: float = 0.0  # kernels of requests completed
    busy_training_ms: float = 0.0  # kernels of steps kept
    steps: int = 0
    out_of_memory: int = 0

    @property
    def promised_bytes(self) -> int:
        """Memory of its replicas, those included that wait for a job to go."""
        return sum(replica.memory_bytes_per_gpu for replica in self.replicas)

    @property
    def allocated_bytes(self) -> int:
        """Memory truly taken."""
        taken = sum(r.memory_bytes_per_gpu for r in self.replicas if r.has_memory)
        return taken + self.batch_bytes + (self.job.memory_bytes if self.job else 0)

    def has_room_for(self, job: Job) -> bool:
        """Whether a job fits beside all that serving may want: full batches, loads under way."""
        batch = max((r.batch_bytes_per_gpu(r.batch_size) for r in self.replicas), default=0)
        return self.promised_bytes + batch + job.memory_bytes <= self.memory_bytes

    def settle(self, now_ms: float) -> None:
        """Charge the time since the last change. Call it before every change of what is here."""
        from_ms, self.settled_ms = self.settled_ms, now_ms
        trained_ms = 0.0
        if self.run is not None and self.run.replica is None and not self.requests:
            trained_ms = max(0.0, now_ms - max(from_ms, self.run.work_from_ms))
        self.training_ms += trained_ms
        if self.run is not None or self.replicas or self.evicting:
            self.serving_ms += now_ms - from_ms - trained_ms
        else:
            self.free_ms += now_ms - from_ms
