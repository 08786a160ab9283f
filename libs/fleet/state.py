"""The state of a fleet, made from what it is, and given room as it grows. Nothing moves here."""

import numpy as np
import numpy.typing as npt

from libs.common.messages import ModelSpec, RoutingTable
from libs.fleet import tables as t
from libs.fleet.agenda import look_soon
from libs.fleet.prefix import clear
from libs.fleet.requests import Requests
from libs.fleet.spec import FleetSpec
from libs.fleet.views import REASONS, Gone, Loaded

Floats = npt.NDArray[np.float64]

THETA = 0.7  # until a policy has set it; the study beside the design has why


class State:
    """The tables, and the names of what stands in their rows."""

    def __init__(self, spec: FleetSpec, at_ms: float, switch_ms: float) -> None:
        self.spec = spec
        self.device_types = list(spec.device_types)
        self.devices = spec.devices()
        self.gpu_index = {device.device: g for g, device in enumerate(self.devices)}
        self.nodes = list(dict.fromkeys(device.node for device in self.devices))
        self.node_index = {node: n for n, node in enumerate(self.nodes)}
        self.model_index: dict[str, int] = {}
        self.specs: list[ModelSpec] = []
        self.start_ms = float(at_ms)
        self._memory = t.Memory()
        self._world = self._memory.world
        self._slots: dict[str, int] = {}  # replicas there, by name
        self.replica_names: list[str] = []  # of all that ever were, by number
        self._tables: dict[str, RoutingTable] = {}
        self._events: list[Loaded | Gone] = []
        self._free_rows: list[int] = []
        self._make_tables(switch_ms)

    @property
    def now_ms(self) -> float:
        """The moment up to which everything has been played."""
        return self.start_ms + float(self._world["now_ms"])

    def _make_tables(self, switch_ms: float) -> None:
        spec, memory = self.spec, self._memory
        n_gpus, n_nodes, n_jobs = len(self.devices), len(self.nodes), len(spec.training)
        widest = max(node.gpus for node in spec.nodes)
        for name in ("requests", "arrivals", "ends", "blocks"):
            memory.make(name, 0)
        for name in ("models", "lanes"):
            memory.make(name, 0)
        for name in ("latency_ratio", "ttft_ratio"):
            memory.make(name, 0, t.BUCKETS)
        memory.make("laws", 0, len(self.device_types))
        memory.make("orders", 0, 0)
        memory.make("sequences", 0, 1)
        memory.make("cache", 0, 0)
        memory.make("buckets", 0, 0)
        memory.make("replicas", 0)
        memory.make("replica_gpus", 0, widest)
        memory.make("heap", 0)
        memory.make("said", 0)
        memory.make("looks", n_gpus)
        memory.make("gpu_replicas", n_gpus, t.PER_GPU)
        memory.make("parts", n_gpus + 1)
        memory.make("part_gpus", n_gpus + 1, widest)
        self._fill_gpus(memory.make("gpus", n_gpus))
        self._fill_nodes(memory.make("nodes", n_nodes), memory.make("links", 2 * n_nodes))
        self._fill_jobs(
            memory.make("jobs", n_jobs), memory.make("step_ms", n_jobs, len(spec.device_types))
        )
        self._world["switch_ms"] = switch_ms
        self._world["steps_left"] = sum(job.steps for job in spec.training)
        self._grow_replicas(64)
        self._make_room()
        for g in range(n_gpus):
            look_soon(self._world, g)

    def _fill_gpus(self, table: t.Table) -> None:
        for gpu, device in zip(table, self.devices, strict=True):
            gpu["memory"] = device.memory_bytes
            gpu["node"] = self.node_index[device.node]
            gpu["device_type"] = self.device_types.index(device.device_type)
        table["part"], table["look_ms"], table["step_from_ms"] = -1, t.NEVER_MS, -t.NEVER_MS

    def _fill_nodes(self, table: t.Table, links: t.Table) -> None:
        names = [(node, name) for node in self.spec.nodes for name in node.names]
        first = 0
        for n, (node, _) in enumerate(names):
            record = table[n]
            record["first_gpu"], record["n_gpus"] = first, node.gpus
            record["start_ms"] = node.start_s * 1000
            record["started_ms"] = t.NEVER_MS if node.start_s else 0.0
            record["host_memory"] = node.host_memory_bytes
            links[2 * n]["bytes_per_ms"] = node.load_bytes_per_s / 1000
            links[2 * n + 1]["bytes_per_ms"] = node.host_bytes_per_s / 1000
            first += node.gpus
        table["changed"], links["look_ms"] = 1, t.NEVER_MS

    def _fill_jobs(self, table: t.Table, step_ms: Floats) -> None:
        for j, job in enumerate(self.spec.training):
            record = table[j]
            record["gpus"], record["memory"], record["steps_left"] = (
                job.gpus,
                job.memory_bytes,
                job.steps,
            )
            record["checkpoint_ms"] = job.checkpoint_s * 1000
            record["restore_ms"] = job.restore_s * 1000
            record["checkpoint_every_ms"] = job.checkpoint_every_s * 1000
            for d, name in enumerate(self.device_types):
                step_ms[j, d] = job.step_ms.get(name, 0.0)

    def _add_model(self, m: int) -> None:
        memory, n = self._memory, max(m + 1, 2 * m)
        memory.grow("models", n)
        # A ring: what waits in it is laid out anew, from the start.
        waiting = np.roll(memory["lanes"], -int(self._world["first_lane"]))
        memory.put("lanes", np.concatenate([waiting, np.zeros(n - len(waiting), np.int32)]))
        self._world["first_lane"] = 0
        for name in ("latency_ratio", "ttft_ratio"):
            memory.grow(name, n, t.BUCKETS)
        memory.grow("laws", n, len(self.device_types))
        memory.grow("orders", n, len(memory["replicas"]))
        model = memory["models"][m]
        model["head"], model["tail"], model["theta"] = -1, -1, THETA
        model["hopeless_ms"], model["block_tokens"] = t.NEVER_MS, 1

    def _grow_replicas(self, n: int) -> None:
        memory = self._memory
        old = len(memory["replicas"])
        memory.grow("replicas", n)["link"][old:] = -1
        memory.grow("replica_gpus", n, memory["replica_gpus"].shape[1])
        memory.grow("orders", memory["orders"].shape[0], n)
        for name in ("sequences", "cache", "buckets"):
            memory.grow(name, n, memory[name].shape[1])

    def _make_room(self) -> None:
        """Give the tables that a moment adds to, room for the largest moment."""
        head, memory = self._world, self._memory
        self._read_log()
        room = 8 * (len(self.devices) + len(memory["replicas"]) + len(memory["models"])) + 64
        head["room"] = room
        if len(memory["heap"]) < int(head["n_heap"]) + 2 * room:
            memory.grow("heap", 2 * len(memory["heap"]) + 4 * room)
        if len(memory["said"]) < 2 * room:
            memory.grow("said", 4 * room)

    def _make_cache(self, requests: Requests) -> None:
        """Give the replicas a cache of prefixes, large enough for any KV pool."""
        memory = self._memory
        models = memory["models"]
        models["block_tokens"][np.unique(requests.model)] = requests.block_tokens
        pools = [spec.kv_tokens for spec in self.specs]
        n = max(1, max(pools) // requests.block_tokens)
        if memory["cache"].shape[1] < n:
            memory.grow("cache", len(memory["replicas"]), n)
            memory.grow("buckets", len(memory["replicas"]), 1 << (n - 1).bit_length())
            for r in self._slots.values():
                clear(self._world, r)

    def _read_log(self) -> None:
        head = self._world
        for line in self._memory["said"][: int(head["n_said"])]:
            name = self.replica_names[int(line["replica"])]
            at_ms = self.start_ms + float(line["at_ms"])
            if line["kind"] == t.SAID_LOADED:
                self._events.append(Loaded(at_ms, name, float(line["took_ms"])))
            else:
                self._events.append(Gone(at_ms, name, REASONS[int(line["reason"])]))
                del self._slots[name]
        head["n_said"] = 0

    def _free_slot(self) -> int:
        states = self._memory["replicas"]["state"]
        free = np.flatnonzero(states == t.GONE)
        if not len(free):
            self._grow_replicas(2 * len(states))
            return len(states)
        return int(free[0])

    def _name_of(self, r: int) -> str:
        return self.replica_names[int(self._memory["replicas"][r]["number"])]

    def _type_of(self, r: int) -> int:
        g = self._memory["replica_gpus"][r, 0]
        return int(self._memory["gpus"][g]["device_type"])

    def _order_of(self, m: int) -> list[int]:
        n = int(self._memory["models"][m]["n_order"])
        return [int(r) for r in self._memory["orders"][m, :n]]
