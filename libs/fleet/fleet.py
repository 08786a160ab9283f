"""The fleet: one deterministic model of GPUs that serve, load and train, moved on by its caller.

`advance(until_ms)` plays everything up to a moment and returns what happened; the executor calls it
in wall time, the benchmark and the tests in virtual time. The same orders at the same times give
the same events, ties in the order in which they arose. No request is ever lost: each that was
dispatched comes back in a `BatchEnded` or a `HandedBack`.
"""

from collections.abc import Sequence

from libs.common.messages import BatchLaw, FleetState, GpuState, ModelSpec, ReplicaState
from libs.fleet.engine import Engines
from libs.fleet.events import Event, FleetError, Request
from libs.fleet.gpu import Gpu, Replica
from libs.fleet.loading import NodeLoader
from libs.fleet.routing import Outlook
from libs.fleet.spec import FleetSpec
from libs.fleet.timeline import Timeline
from libs.fleet.training import Backlog


def replica_name(model: str, node: str, gpus: Sequence[int]) -> str:
    """Return `model@node:0+1`."""
    return f"{model}@{node}:{'+'.join(map(str, gpus))}"


class Fleet:
    """Orders (`load`, `drain`, `unload`, `set_*`, `dispatch`) act at `now_ms`: advance first.

    Those about a replica raise KeyError where there is none of that name.
    """

    def __init__(self, spec: FleetSpec, at_ms: float, switch_ms: float = 10.0) -> None:
        self.gpus: dict[str, Gpu] = {}  # by device
        self.replicas: dict[str, Replica] = {}  # by name; those that are gone are not there
        self._switch_ms = switch_ms
        self._timeline = Timeline(at_ms)
        self._engines = Engines(
            self._timeline, self.replicas, Backlog(spec.training), switch_ms, self._begin_load
        )
        self._nodes: dict[str, list[Gpu]] = {}
        self._loaders: dict[str, NodeLoader] = {}
        for device in spec.devices():
            if device.node not in self._nodes:
                self._nodes[device.node] = []
                self._loaders[device.node] = NodeLoader(
                    self._timeline, device.load_bytes_per_s, device.start_s
                )
            gpu = Gpu(
                device=device.device,
                node=device.node,
                index=device.gpu,
                device_type=device.device_type,
                memory_bytes=device.memory_bytes,
                settled_ms=self.now_ms,
                started_ms=self._loaders[device.node].started_ms,
            )
            self.gpus[gpu.device] = gpu
            self._nodes[gpu.node].append(gpu)
        self._timeline.changed.update(self._nodes)
        self._engines.look_at(self.gpus.values(), self.now_ms)

    # --- Time -------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> float:
        """The moment up to which everything has been played."""
        return self._timeline.now_ms

    def next_event_ms(self) -> float:
        """Return the time before which nothing happens unless an order comes; may be now."""
        return self._timeline.next_ms()

    def advance(self, until_ms: float) -> list[Event]:
        """Play up to and including `until_ms`; return what happened, in order."""
        return self._timeline.advance(until_ms)

    # --- Orders -----------------------------------------------------------------------------------

    def load(self, spec: ModelSpec, node: str, gpus: Sequence[int]) -> str:
        """Begin to load a replica, and return its name; `Loaded` comes once it is resident.

        A training job in its way checkpoints and goes first; until then the replica waits.

        Raises:
            FleetError: no such node or GPU, not the number of GPUs that the model needs, no law for
                the device type, no memory beside the other replicas, or it is there already.
        """
        name = replica_name(spec.name, node, gpus)
        if name in self.replicas:
            raise FleetError(f"{name} is there already, {self.replicas[name].state}")
        taken = self._pick(spec, node, gpus)
        law = spec.law[taken[0].device_type]
        if not isinstance(law, BatchLaw):
            raise FleetError(f"{spec.name} is of kind {spec.kind}")
        replica = Replica(name, spec, law, taken, self.now_ms)
        for gpu in taken:
            free_bytes = gpu.memory_bytes - gpu.promised_bytes
            if replica.memory_bytes_per_gpu > free_bytes:
                raise FleetError(
                    f"no memory on {gpu.device}: {replica.memory_bytes_per_gpu} bytes needed, "
                    f"{free_bytes} free"
                )
        self.replicas[name] = replica
        for gpu in taken:
            gpu.settle(self.now_ms)
            gpu.replicas.append(replica)
        self._timeline.changed.add(node)
        self._begin_load(replica)
        return name

    def drain(self, name: str) -> None:
        """Let a replica finish what it holds, then go. One that still loads goes at once."""
        replica = self.replicas[name]
        if replica.queue or replica.running:
            replica.state = "draining"
            self._timeline.changed.add(replica.gpus[0].node)
            return
        if replica.state == "loading":
            self._loaders[replica.gpus[0].node].abandon(replica)
        self._engines.remove(replica, "ordered")

    def unload(self, name: str) -> None:
        """Let a replica go after its running batch; what waits there is handed back now."""
        self._engines.hand_back(self.replicas[name])
        self.drain(name)

    def set_batch(self, name: str, size: int, wait_ms: float, serving_share: float) -> None:
        """Set how a replica forms batches, and its part of its GPUs' compute.

        Raises:
            FleetError: `size` is above what the model takes.
        """
        replica = self.replicas[name]
        if size > replica.spec.batch_max:
            raise FleetError(f"batch size {size} is above batch_max {replica.spec.batch_max}")
        replica.batch_size, replica.wait_ms, replica.serving_share = size, wait_ms, serving_share
        self._engines.look_at(replica.gpus, self.now_ms)

    def set_concurrency(self, name: str, concurrency: int) -> None:
        """Set how many requests the router may give a replica; at 0 its GPUs are left to train."""
        replica = self.replicas[name]
        if replica.concurrency != concurrency:
            replica.concurrency = concurrency
            self._engines.look_at(replica.gpus, self.now_ms)

    def dispatch(self, name: str, request: Request) -> None:
        """Give a request to a resident replica.

        Its batch starts in `advance` at the earliest, so what is given at one moment travels
        together.
        """
        replica = self.replicas[name]
        assert replica.state == "resident", (name, replica.state)
        replica.queue.append((self.now_ms, request))
        for gpu in replica.gpus:
            gpu.settle(self.now_ms)
            gpu.requests += 1
        self._engines.look_at(replica.gpus[:1], self.now_ms)

    # --- What a caller may see --------------------------------------------------------------------

    def outlook(self, name: str) -> Outlook | None:
        """Return what the router may know of a replica now; None when it is not resident."""
        replica = self.replicas.get(name)
        if replica is None or replica.state != "resident":
            return None
        waiting = len(replica.queue)
        return Outlook(
            replica.concurrency,
            waiting + replica.running,
            waiting,
            self.now_ms - replica.queue[0][0] if waiting else 0.0,
            max(self._free_in_ms(gpu, replica) for gpu in replica.gpus),
            replica.batch_size,
            replica.wait_ms,
            replica.law.alpha_ms,
            replica.law.beta_ms,
        )

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return list(self._nodes)

    def settle(self) -> None:
        """Bring the accounts of all GPUs up to `now_ms`."""
        for gpu in self.gpus.values():
            gpu.settle(self.now_ms)

    def take_changed(self) -> list[str]:
        """Return the nodes whose replicas changed since this was last called; at first all."""
        changed = sorted(self._timeline.changed)
        self._timeline.changed.clear()
        return changed

    def state_of(self, node: str) -> FleetState:
        """Return what is where on a node. A training job gives way: its memory counts as free."""
        gpus = self._nodes[node]
        free = tuple(
            GpuState(
                gpu=gpu.index,
                memory_bytes_total=gpu.memory_bytes,
                memory_bytes_free=gpu.memory_bytes - gpu.promised_bytes,
            )
            for gpu in gpus
        )
        replicas = tuple(
            ReplicaState(
                replica=replica.name,
                model=replica.spec.name,
                gpus=tuple(gpu.index for gpu in replica.gpus),
                state=replica.state,
                memory_bytes=replica.memory_bytes,
            )
            for replica in dict.fromkeys(replica for gpu in gpus for replica in gpu.replicas)
        )
        return FleetState(node=node, at_ms=int(self.now_ms), gpus=free, replicas=replicas)

    # --- Parts of the above -----------------------------------------------------------------------

    def _pick(self, spec: ModelSpec, node: str, gpus: Sequence[int]) -> tuple[Gpu, ...]:
        if node not in self._nodes:
            raise FleetError(f"unknown node {node!r}")
        there = self._nodes[node]
        for gpu in gpus:
            if gpu not in range(len(there)):
                raise FleetError(f"{node} has no GPU {gpu}")
        if len(gpus) != spec.gpus or len(set(gpus)) != spec.gpus:
            raise FleetError(f"{spec.name} takes {spec.gpus} GPUs, not {list(gpus)}")
        if there[0].device_type not in spec.law:
            raise FleetError(f"{spec.name} has no service law for {there[0].device_type}")
        return tuple(there[gpu] for gpu in gpus)

    def _begin_load(self, replica: Replica) -> None:
        """Begin a load, unless a training job has to go first: then this is called again."""
        if not self._engines.claim(replica, replica.memory_bytes_per_gpu):
            return
        replica.has_memory = True
        node = replica.gpus[0].node
        loader = self._loaders[node]
        loader.begin(replica)
        for gpu in self._nodes[node]:
            gpu.started_ms = loader.started_ms
        self._engines.look_at(self._nodes[node], loader.started_ms)

    def _free_in_ms(self, gpu: Gpu, replica: Replica) -> float:
        """Rest of what runs, the switch back from training, and what waits at other replicas."""
        rest_ms = gpu.run.ends_ms - self.now_ms if gpu.run else 0.0
        if gpu.last == "training":
            rest_ms += self._switch_ms
        others = (other for other in gpu.replicas if other is not replica and other.queue)
        return rest_ms + sum(other.waiting_ms() for other in others)
