"""The fleet: one deterministic model of GPUs that serve, load and train, moved on by its caller.

`advance(until_ms)` plays everything up to a moment; the executor calls it in wall time, the
benchmark and the tests in virtual time. The same orders at the same times give the same bytes, ties
in the order in which they arose. No request is ever lost. The state is a set of tables
(`tables.py`) that compiled kernels change; this facade is all that others need. Times are
milliseconds on the caller's clock. What is modelled, and what is not: `docs/fleet-model.md`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from libs.common.messages import (
    ITERATION_SHARE,
    BatchLaw,
    ModelSpec,
    RoutingTable,
    StepLaw,
)
from libs.fleet import tables as t
from libs.fleet.agenda import lane_soon, look_soon, plan
from libs.fleet.faults import take_fault
from libs.fleet.play import arrive, next_ms, play
from libs.fleet.queues import hand_back
from libs.fleet.requests import Requests
from libs.fleet.residents import become_resident, count_standby, dismiss, drain, order_load
from libs.fleet.seen import Seen
from libs.fleet.spec import FleetSpec
from libs.fleet.views import (
    STATES,
    FleetError,
    Gone,
    GpuView,
    Loaded,
    ReplicaView,
    replica_name,
)

# All that other rooms need of this one, beside its files to read and its router.
__all__ = [
    "FleetError",
    "FleetModel",
    "Gone",
    "GpuView",
    "Loaded",
    "ReplicaView",
    "Requests",
    "replica_name",
]

UNLIMITED = 1_000_000
FAULTS = {"fail": t.FAIL, "revive": t.REVIVE, "reclaim": t.RECLAIM}
ROUTERS = {"first_fit": t.FIRST_FIT, "jsq": t.SHORTEST_QUEUE}


class FleetModel(Seen):
    """Orders act at `now_ms`: advance first. Those about a replica raise KeyError without one."""

    def __init__(
        self,
        spec: FleetSpec,
        models: Sequence[ModelSpec] = (),
        at_ms: float = 0.0,
        switch_ms: float = 10.0,
    ) -> None:
        super().__init__(spec, at_ms, switch_ms)
        for model in models:
            self.register(model)

    # --- Time -------------------------------------------------------------------------------------

    def next_event_ms(self) -> float:
        """Return the time before which nothing happens unless an order comes; may be now."""
        return self.start_ms + float(next_ms(self._world))

    def advance(self, until_ms: float) -> None:
        """Play up to and including `until_ms`."""
        until_ms -= self.start_ms
        assert until_ms >= self._world["now_ms"], (until_ms, self.now_ms)
        while not play(self._memory.heads, until_ms):
            self._make_room()
        if self._world["n_said"]:
            self._read_log()

    def run(self, until_ms: float, tick_ms: float, policy: Callable[["FleetModel"], None]) -> None:
        """Play up to `until_ms`, with a policy called at each multiple of `tick_ms` from the start.

        It may give orders, and reads no clock but `now_ms`.
        """
        tick = int((self.now_ms - self.start_ms) // tick_ms) + 1
        while self.start_ms + tick * tick_ms <= until_ms:
            self.advance(self.start_ms + tick * tick_ms)
            policy(self)
            tick += 1
        self.advance(until_ms)

    # --- Models and requests ----------------------------------------------------------------------

    def register(self, spec: ModelSpec) -> int:
        """Add a model, or change what is promised of it; return its index.

        Replicas there keep their old spec.
        """
        m = self.model_index.get(spec.name)
        if m is None:
            m = self.model_index[spec.name] = len(self.specs)
            self.specs.append(spec)
            self._add_model(m)
        self.specs[m] = spec
        model = self._memory["models"][m]
        model["belief"] = model["belief"] or 1.0
        model["kind"] = t.LLM if spec.kind == "llm" else t.BATCH
        model["rejects"] = spec.on_late == "reject"
        model["known"] = 1
        objective = spec.objective
        model["objective_ms"] = objective.latency_ms
        model["ttft_ms"], model["tpot_ms"] = objective.ttft_ms, objective.tpot_ms
        # A request still waiting this long after it was due can no longer meet its objective.
        model["fastest_ms"] = objective.latency_ms - min(map(_shortest_ms, spec.law.values()))
        model["kv_tokens"] = spec.kv_tokens
        if spec.kind == "llm":
            self._memory.grow("sequences", len(self._memory["replicas"]), spec.batch_max)
        return m

    def forget(self, name: str) -> None:
        """Remove a model: who waits at the router is rejected, who runs is served."""
        m = self.model_index.get(name)
        if m is not None:
            self._memory["models"][m]["known"] = 0
            lane_soon(self._world, m)

    def knows(self, name: str) -> bool:
        """Whether requests of this model can be taken."""
        m = self.model_index.get(name)
        return m is not None and bool(self._memory["models"][m]["known"])

    def submit(self, requests: Requests) -> None:
        """Add requests that will arrive when they are due, none before those added so far."""
        head = self._world
        old, new = len(self.requests), len(requests.due_ms)
        if requests.blocks is not None:
            self._make_cache(requests)
        table = self._memory.grow("requests", old + new)
        requests.fill(table[old:], len(self._memory["blocks"]), self.start_ms)
        if requests.blocks is not None:
            self._memory.put("blocks", np.concatenate([self._memory["blocks"], requests.blocks]))
        self._memory.grow("ends", old + new)
        done = int(head["next_arrival"])
        waiting = self._memory["arrivals"][done : int(head["n_arrivals"])]
        coming = np.arange(old, old + new, dtype=np.int32)
        if len(waiting) and new:
            assert table["due_ms"][waiting[-1]] <= table["due_ms"][old], "requests out of order"
        self._memory.put("arrivals", np.concatenate([waiting, coming]))
        head["next_arrival"], head["n_arrivals"] = 0, len(waiting) + new

    def enter(
        self, model: str, due_ms: float, prompt: int = 0, output: int = 0, most: int = 0
    ) -> int:
        """Let one request arrive now, whenever it was due; return its row in `requests`.

        The row is used again once `take_ended` has told of it: for callers that run for days, and
        submit nothing.
        """
        if not self._free_rows:
            old = len(self.requests)
            self._memory.grow("requests", 2 * old + 64)
            self._memory.grow("ends", 2 * old + 64)
            self._free_rows = list(range(2 * old + 63, old - 1, -1))
        row = self._free_rows.pop()
        one = Requests.of([due_ms], [self.model_index[model]], [prompt], [output], [most])
        self.requests[row] = np.zeros((), t.REQUEST)
        one.fill(self.requests[row : row + 1], 0, self.start_ms)
        arrive(self._world, row)
        return row

    def take_ended(self) -> list[int]:
        """Return the rows of `requests` that ended since this was last called, in order.

        Read them before the next `enter`. Their `replica` is a place in `replica_names`.
        """
        head = self._world
        rows: list[int] = self._memory["ends"][: int(head["n_ends"])].tolist()
        head["n_ends"] = 0
        self._free_rows.extend(rows)
        return rows

    def finish(self) -> None:
        """Count every request that is still open as unfinished: it is missed."""
        table = self.requests
        open_ = table["status"] == t.OPEN
        table["status"][open_] = t.UNFINISHED
        self._memory["models"]["unfinished"] += np.bincount(
            table["model"][open_], minlength=len(self._memory["models"])
        )

    # --- Replicas ---------------------------------------------------------------------------------

    def load(
        self,
        model: str,
        node: str,
        gpus: Sequence[int],
        concurrency: int | None = None,
        batch_size: int | None = None,
    ) -> str:
        """Begin to load a replica, and return its name; `Loaded` comes once it is resident.

        Until it is told otherwise, it takes all that the router gives it, in the largest batches,
        and leaves nothing to training. Where the node holds a copy of the model in its memory, that
        is what is loaded. A training job in its way checkpoints and goes first; until then the
        replica waits.

        Raises:
            FleetError: no such model, node or GPU, the node is down, not the number of GPUs that
                the model needs, no law for the device type, no memory, or it is there already.
        """
        r = self._add_replica(model, node, gpus, concurrency)
        if batch_size is not None:
            self._memory["replicas"][r]["batch_size"] = batch_size
        order_load(self._world, r)
        self._read_log()
        return self._name_of(r)

    def place(self, model: str, node: str, gpus: Sequence[int]) -> str:
        """Put a replica on its GPUs as if it had been there before the run; raises as `load`.

        Its node runs from now on, and no load is counted.
        """
        r = self._add_replica(model, node, gpus, None)
        record = self._memory["replicas"][r]
        self._memory["nodes"][record["node"]]["started_ms"] = self._world["now_ms"]
        for k in range(int(record["n_gpus"])):
            look_soon(self._world, int(self._memory["replica_gpus"][r, k]))
        order_load(self._world, r)
        assert record["has_memory"], "place replicas before anything trains"
        record["ticket"] += 1  # the plan to load comes to nothing
        become_resident(self._world, r)
        m = int(record["model"])
        self._memory["models"][m]["loads"] -= 1
        law = self._memory["laws"][m, self._type_of(r)]
        law["loads"] -= 1
        self._read_log()
        self._events.pop()
        return self._name_of(r)

    def drain(self, name: str) -> None:
        """Let a replica finish what it holds, then go. One that still loads goes at once."""
        dismiss(self._world, self._slots[name])
        self._read_log()

    def unload(self, name: str) -> None:
        """Let a replica go after what it runs; what waits there is handed back now."""
        hand_back(self._world, self._slots[name])
        self.drain(name)

    def to_host(self, name: str) -> None:
        """Let a replica finish what it holds, then move its weights to its node's memory.

        Raises:
            FleetError: it is not resident, or the node's memory has no room.
        """
        record = self._memory["replicas"][self._slots[name]]
        if record["state"] != t.RESIDENT:
            raise FleetError(f"{name} is not resident, but {STATES[int(record['state'])]}")
        node = self._memory["nodes"][record["node"]]
        free = int(node["host_memory"] - node["host_taken"])
        if record["load_bytes"] > free:
            raise FleetError(
                f"no host memory for {name}: {int(record['load_bytes'])} bytes needed, {free} free"
            )
        node["host_taken"] += int(record["load_bytes"])
        record["leaves_to_host"] = 1
        drain(self._world, self._slots[name])
        self._read_log()

    def set_batch(self, name: str, size: int, wait_ms: float, serving_share: float) -> None:
        """Set how a replica forms batches (LLM: runs sequences), and its part of its GPUs' compute.

        Raises:
            FleetError: `size` is above what the model takes.
        """
        r = self._slots[name]
        record = self._memory["replicas"][r]
        batch_max = self.specs[int(record["model"])].batch_max
        if size > batch_max:
            raise FleetError(f"batch size {size} is above batch_max {batch_max}")
        record["batch_size"], record["wait_ms"] = size, wait_ms
        record["serving_share"] = serving_share
        self._look_at(r)

    def set_concurrency(self, name: str, concurrency: int) -> None:
        """Set how many requests the router may give a replica; at 0 its GPUs are left to train."""
        r = self._slots[name]
        record = self._memory["replicas"][r]
        if record["concurrency"] != concurrency:
            record["concurrency"] = concurrency
            count_standby(self._world, r)
            self._look_at(r)
            lane_soon(self._world, int(record["model"]))

    # --- The router -------------------------------------------------------------------------------

    def set_order(self, model: str, names: Iterable[str]) -> None:
        """Set the order in which the router looks at replicas; those left out get concurrency 0."""
        m = self.model_index[model]
        order = [self._slots[name] for name in names if name in self._slots]
        others = [r for r in self._order_of(m) if r not in order]
        self._memory["orders"][m, : len(order) + len(others)] = order + others
        self._memory["models"][m]["n_order"] = len(order) + len(others)
        for r in others:
            self.set_concurrency(self._name_of(r), 0)
        lane_soon(self._world, m)

    def set_theta(self, model: str, theta: float) -> None:
        """Set the part of the objective that a prediction may fill."""
        self._memory["models"][self.model_index[model]]["theta"] = theta

    def set_belief(self, model: str, belief: float) -> None:
        """Let the router believe that a model's work takes so many times as long as it does."""
        self._memory["models"][self.model_index[model]]["belief"] = belief

    def set_router(self, model: str, router: Literal["first_fit", "jsq"]) -> None:
        """Set the law by which a model's requests are given to replicas."""
        self._memory["models"][self.model_index[model]]["router"] = ROUTERS[router]

    def follow(self, table: RoutingTable) -> bool:
        """Take a table, unless one of a higher (epoch, tick) is in force: then return False.

        It may name replicas that are still to come.
        """
        old = self._tables.get(table.model)
        if old is not None and (table.epoch, table.tick) < (old.epoch, old.tick):
            return False
        self._tables[table.model] = table
        if table.model in self.model_index:
            self.set_theta(table.model, table.theta)
            self._apply(table)
        return True

    # --- Faults -----------------------------------------------------------------------------------

    def fail(self, node: str) -> None:
        """Lose a node and all on it, now."""
        take_fault(self._world, self.node_index[node], t.FAIL)
        self._read_log()

    def revive(self, node: str) -> None:
        """Bring a node back, cold."""
        take_fault(self._world, self.node_index[node], t.REVIVE)

    def reclaim(self, node: str, notice_s: float) -> None:
        """Announce that a node will be lost: its jobs save their state, and nothing new begins."""
        self.schedule([(self.now_ms, "reclaim", node, notice_s)])

    def schedule(self, faults: Iterable[tuple[float, str, str, float]]) -> None:
        """Plan faults: (at_ms, "fail" | "revive" | "reclaim", node, notice_s)."""
        for at_ms, kind, node, notice_s in faults:
            n, due_ms = self.node_index[node], at_ms - self.start_ms
            self._make_room()
            plan(self._world, due_ms, t.FAULT, n, FAULTS[kind])
            if kind == "reclaim":
                plan(self._world, due_ms + notice_s * 1000, t.FAULT, n, t.FAIL)

    # --- Parts of the above -----------------------------------------------------------------------

    def _look_at(self, r: int) -> None:
        for k in range(int(self._memory["replicas"][r]["n_gpus"])):
            look_soon(self._world, int(self._memory["replica_gpus"][r, k]))

    def _apply(self, table: RoutingTable) -> None:
        self.set_order(table.model, [route.replica for route in table.replicas])
        for route in table.replicas:
            if route.replica in self._slots:
                self.set_concurrency(route.replica, route.concurrency)

    def _pick(self, spec: ModelSpec, node: str, gpus: Sequence[int]) -> list[int]:
        if node not in self.node_index:
            raise FleetError(f"unknown node {node!r}")
        record = self._memory["nodes"][self.node_index[node]]
        for gpu in gpus:
            if gpu not in range(int(record["n_gpus"])):
                raise FleetError(f"{node} has no GPU {gpu}")
        if len(gpus) != spec.gpus or len(set(gpus)) != spec.gpus:
            raise FleetError(f"{spec.name} takes {spec.gpus} GPUs, not {list(gpus)}")
        if record["down"] or record["cordoned"]:
            raise FleetError(f"{node} is {'down' if record['down'] else 'to be reclaimed'}")
        return [int(record["first_gpu"]) + gpu for gpu in gpus]

    def _add_replica(
        self, model: str, node: str, gpus: Sequence[int], concurrency: int | None
    ) -> int:
        """Make the record of a replica, with nothing on the GPUs yet."""
        if not self.knows(model):
            raise FleetError(f"unknown model {model!r}")
        m = self.model_index[model]
        spec, name = self.specs[m], replica_name(model, node, gpus)
        there = self._slots.get(name)
        if there is not None and self._memory["replicas"][there]["state"] != t.IN_HOST:
            raise FleetError(f"{name} is there already, {self.replica(name).state}")
        taken = self._pick(spec, node, gpus)
        device_type = self.devices[taken[0]].device_type
        law = spec.law.get(device_type)
        if law is None:
            raise FleetError(f"{spec.name} has no service law for {device_type}")
        per_gpu = -(-spec.resident_bytes // spec.gpus)
        for g in taken:
            if per_gpu > self.free_bytes[g]:
                raise FleetError(
                    f"no memory on {self.devices[g].device}: {per_gpu} bytes needed, "
                    f"{self.free_bytes[g]} free"
                )
            if self._memory["gpus"][g]["n_replicas"] == t.PER_GPU:
                raise FleetError(f"{self.devices[g].device} has {t.PER_GPU} replicas already")
        from_host = self._take_from_host(m, node, name)
        r = self._free_slot()
        ticket = self._memory["replicas"][r]["ticket"]
        self._memory["replicas"][r] = np.zeros((), t.REPLICA)
        record = self._memory["replicas"][r]
        record["ticket"], record["link"], record["state"] = ticket + 1, -1, t.LOADING
        record["model"], record["node"], record["n_gpus"] = m, self.node_index[node], spec.gpus
        record["number"], record["from_host"] = len(self.replica_names), from_host
        record["memory"], record["whole_memory"] = per_gpu, spec.resident_bytes
        record["ordered_ms"] = self._world["now_ms"]
        record["load_bytes"] = spec.load.bytes or spec.weights_bytes
        if not from_host:
            record["image_ms"] = spec.load.image_s * 1000
            record["compile_ms"] = spec.load.compile_s * 1000
        record["batch_size"], record["serving_share"] = spec.batch_max, 1.0
        record["concurrency"] = UNLIMITED if concurrency is None else concurrency
        for field in ("head", "tail", "run_head"):
            record[field] = -1
        _fill_law(record, law, spec)
        self._memory["replica_gpus"][r, : len(taken)] = taken
        self._slots[name] = r
        self.replica_names.append(name)
        n = int(self._memory["models"][m]["n_order"])
        self._memory["orders"][m, n] = r
        self._memory["models"][m]["n_order"] = n + 1
        table = self._tables.get(model)
        if table is not None:  # written before the replica came
            self._apply(table)
        self._make_room()
        return r

    def _take_from_host(self, m: int, node: str, wanted: str) -> int:
        """Take a copy of a model in a node's memory, if there is one; its bytes stay taken.

        The one of the wanted name goes first, as no name can stand for two replicas.
        """
        n, there = self.node_index[node], self._memory["replicas"]
        for name in (wanted, *self._slots):
            r = self._slots.get(name, -1)
            record = there[r]
            if r < 0 or (record["model"], record["node"], record["state"]) != (m, n, t.IN_HOST):
                continue
            record["state"] = t.GONE
            record["ticket"] += 1
            order = [other for other in self._order_of(m) if other != r]
            self._memory["orders"][m, : len(order)] = order
            self._memory["models"][m]["n_order"] = len(order)
            del self._slots[name]
            return 1
        return 0


def _shortest_ms(law: BatchLaw | StepLaw) -> float:
    if isinstance(law, BatchLaw):
        return law.alpha_ms + law.beta_ms
    return law.base_ms + law.prefill_token_ms


def _fill_law(record: Any, law: BatchLaw | StepLaw, spec: ModelSpec) -> None:
    if isinstance(law, BatchLaw):
        record["kind"] = t.BATCH
        record["alpha_ms"], record["beta_ms"] = law.alpha_ms, law.beta_ms
        record["request_bytes"] = spec.request_bytes
        return
    record["kind"] = t.LLM
    record["base_ms"], record["prefill_ms"] = law.base_ms, law.prefill_token_ms
    record["decode_ms"], record["kv_ms"] = law.decode_seq_ms, law.kv_token_ms
    record["iteration_max_ms"] = ITERATION_SHARE * spec.objective.tpot_ms
    record["kv_tokens"], record["next_finish"] = spec.kv_tokens, t.FOREVER
    record["batch_size"] = spec.batch_max
