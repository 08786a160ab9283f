"""Every JSON contract on the bus, one class a topic; the Protobuf ones are in `plimsoll.proto`.

Commands are orders (`ScaleModel`), events are facts (`InventoryUpdated`). Times are UTC epoch
milliseconds named `*_ms`, sizes are bytes, shares lie in [0, 1]. A new field gets a default, and a
name is never reused. What a class does not know it ignores, so that an older reader survives.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

# Ids and names travel in keys, headers, labels and file names, so they are short and printable.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
# `model@node:0+1` holds two names, so it may be longer than either.
ReplicaName = Annotated[
    str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[\x21-\x7e]+$")
]
EpochMs = Annotated[int, Field(ge=0, lt=1 << 53)]
Bytes = Annotated[int, Field(ge=0, lt=1 << 53)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# A hundred million tokens or units: above it, a number is a mistake rather than an order.
QUANTITY_MAX = 100_000_000
Quantity = Annotated[int, Field(ge=-QUANTITY_MAX, le=QUANTITY_MAX, strict=True)]
OrderKind = Literal["order", "reserve", "release", "restock", "correct"]
# What became of an order that was carried, and of its lines.
Moved = Literal["deducted", "reserved", "released", "restocked", "corrected"]
LineStatus = Literal[Moved, "fulfilled"]
Tokens = Annotated[int, Field(ge=0, le=QUANTITY_MAX)]
# The target of a pause of every model.
ALL = "all"
# Of tpot_ms, how long an iteration of an LLM engine is let grow. 0.9 costs 3 % more GPU time, and
# leaves more for what a model of time does not know.
ITERATION_SHARE = 0.95


class Message(BaseModel):
    """What all contracts share: frozen, no NaN or infinity, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="ignore")


# --- Requests and results: apps <-> router -------------------------------------------------------


class InferenceRequest(Message):
    """Topic `inference.requests`, keyed by request id. A wish to run `model` once."""

    request_id: Name
    model: Name
    due_at_ms: EpochMs | None = None  # when it should be sent; absent: when the router saw it
    prompt_tokens: Tokens = 0
    max_tokens: Tokens = 0  # all that a router may know of the answer's length
    output_tokens: Tokens = 0  # the answer's true length, for a simulated engine alone


class InferenceResult(Message):
    """Topic `inference.results`, keyed by request id. The one end of a request."""

    request_id: Name
    model: Name
    status: Literal["ok", "late", "rejected"]  # ok: within the objective; late: served past it
    reason: str = ""
    due_at_ms: EpochMs
    ended_at_ms: EpochMs
    latency_ms: Annotated[float, Field(ge=0)]  # due -> ended
    replica: str = ""  # empty when rejected
    batch_size: Annotated[int, Field(ge=0)] = 0  # requests that ran together
    prompt_tokens: Tokens = 0
    output_tokens: Tokens = 0


# --- What there is: models, devices, where replicas are -------------------------------------------


class Objective(Message):
    """What a user is promised: of a batch model the latency of one request, due to ended.

    Of an LLM the time to the first token, from due, and the mean time of each later one; for a
    reader that knows only one objective, its `latency_ms` is the first of these.
    """

    latency_ms: Positive = 0.0
    ttft_ms: Annotated[float, Field(ge=0)] = 0.0  # 0, as tpot_ms: a batch model
    tpot_ms: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _fill_latency(cls, said: Any) -> Any:
        if not isinstance(said, dict) or "latency_ms" in said:
            return said
        if "ttft_ms" not in said:
            raise ValueError("neither latency_ms nor ttft_ms and tpot_ms are given")
        return {**said, "latency_ms": said["ttft_ms"]}


class LoadTime(Message):
    """The parts of a load time that belong to the model; bandwidth belongs to the node."""

    image_s: Annotated[float, Field(ge=0)] = 0.0
    bytes: Bytes = 0  # read from the node's disk; 0: as many as the weights take
    compile_s: Annotated[float, Field(ge=0)] = 0.0


class BatchLaw(Message):
    """Service time of a batch of b requests: s(b) = alpha + beta x b, in ms."""

    alpha_ms: Annotated[float, Field(ge=0)]
    beta_ms: Positive


class StepLaw(Message):
    """Time of one iteration of an LLM engine, in ms: the sum of these.

    base + prefill_token x tokens of prompts + decode_seq x sequences that decode + kv_token x
    tokens of context that those read.
    """

    base_ms: Annotated[float, Field(ge=0)]
    prefill_token_ms: Positive
    decode_seq_ms: Annotated[float, Field(ge=0)]
    kv_token_ms: Annotated[float, Field(ge=0)] = 0.0


class ModelSpec(Message):
    """Topic `registry.models`, keyed by model; also `models.yaml`. What it needs and promises."""

    name: Name
    kind: Literal["batch", "llm"] = "batch"
    objective: Objective
    on_late: Literal["best_effort", "reject"] = "best_effort"
    gpus: Annotated[int, Field(ge=1, le=64)] = 1  # of one node, for one replica
    weights_bytes: Bytes
    activation_bytes: Bytes = 0
    request_bytes: Bytes = 1024 * 1024 * 1024  # a cautious gigabyte where nothing is known
    # Of an LLM: the KV cache that a replica reserves beside its weights, and what a token takes.
    kv_bytes_per_token: Bytes = 0
    kv_tokens: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    batch_max: Annotated[int, Field(ge=1, le=4096)] = 32  # of an LLM: running sequences
    replicas_min: Annotated[int, Field(ge=0, le=10_000)] = 1
    replicas_max: Annotated[int, Field(ge=1, le=10_000)] = 10_000  # or what the fleet has
    load: LoadTime = LoadTime()
    law: dict[str, BatchLaw | StepLaw] = Field(min_length=1)  # by device type

    @property
    def resident_bytes(self) -> int:
        """What a replica takes, over all its GPUs, before the first request comes."""
        return self.weights_bytes + self.activation_bytes + self.kv_tokens * self.kv_bytes_per_token

    @model_validator(mode="after")
    def _check_relations(self) -> "ModelSpec":
        if self.replicas_min > self.replicas_max:
            raise ValueError(
                f"replicas_min {self.replicas_min} is above replicas_max {self.replicas_max}"
            )
        for device_type, law in self.law.items():
            if isinstance(law, StepLaw) != (self.kind == "llm"):
                raise ValueError(f"law.{device_type} is not that of a model of kind {self.kind}")
        if self.kind == "llm":
            self._check_llm()
        else:
            self._check_batch()
        return self

    def _check_batch(self) -> None:
        if self.objective.ttft_ms or self.objective.tpot_ms:
            raise ValueError("objective of a batch model is latency_ms, not ttft_ms and tpot_ms")
        laws = [law for law in self.law.values() if isinstance(law, BatchLaw)]
        fastest_ms = min(law.alpha_ms + law.beta_ms for law in laws)
        if self.objective.latency_ms <= fastest_ms:
            raise ValueError(
                f"objective.latency_ms {self.objective.latency_ms:g} is not above the bare service "
                f"time {fastest_ms:g} ms on the fastest device type"
            )

    def _check_llm(self) -> None:
        if not self.objective.ttft_ms or not self.objective.tpot_ms:
            raise ValueError("objective of an llm is ttft_ms and tpot_ms, both above 0")
        if not self.kv_tokens:
            raise ValueError("kv_tokens of an llm, the KV cache of a replica, is above 0")
        laws = [law for law in self.law.values() if isinstance(law, StepLaw)]
        fastest_ms = min(law.base_ms + max(law.prefill_token_ms, law.decode_seq_ms) for law in laws)
        # An iteration is kept within a part of tpot_ms, and the first token takes one at least.
        for name in ("tpot_ms", "ttft_ms"):
            if ITERATION_SHARE * getattr(self.objective, name) <= fastest_ms:
                raise ValueError(
                    f"objective.{name} {getattr(self.objective, name):g} is too near the shortest "
                    f"iteration {fastest_ms:g} ms on the fastest device type"
                )


class DeviceSpec(Message):
    """Topic `registry.devices`, keyed by device. One GPU and the node around it."""

    device: Name  # node/gpu
    node: Name
    gpu: Annotated[int, Field(ge=0)]
    device_type: Name
    memory_bytes: Annotated[int, Field(gt=0)]
    price_usd_per_hour: Annotated[float, Field(ge=0)] = 0.0
    load_bytes_per_s: Positive = 1e9
    start_s: Annotated[float, Field(ge=0)] = 0.0


class GpuState(Message):
    """One GPU of a `FleetState`."""

    gpu: Annotated[int, Field(ge=0)]
    memory_bytes_total: Bytes
    memory_bytes_free: Bytes


class ReplicaState(Message):
    """One replica of a `FleetState`: resident or on its way in or out."""

    replica: ReplicaName  # model@node:0+1
    model: Name
    gpus: tuple[int, ...]
    state: Literal["loading", "resident", "draining", "host"]  # host: in its node's memory
    memory_bytes: Bytes


class FleetState(Message):
    """Topic `fleet.state`, keyed by node. What is where, as the executor knows it: the truth."""

    node: Name
    at_ms: EpochMs
    gpus: tuple[GpuState, ...]
    replicas: tuple[ReplicaState, ...]


# --- Commands: scheduler -> executor --------------------------------------------------------------


class ScaleModel(Message):
    """Topic `commands.scaling`, keyed by model. The target number of replicas, when it changes."""

    id: Name  # epoch-tick-position, as of every command
    model: Name
    replicas: Annotated[int, Field(ge=0)]


class PlaceReplica(Message):
    """Topic `commands.placement`, keyed by node. Load, drain or unload one replica.

    `to_host`: drain it, and keep its weights in the node's memory.
    """

    id: Name
    replica: ReplicaName
    model: Name
    node: Name
    gpus: tuple[int, ...] = Field(min_length=1)
    action: Literal["load", "drain", "unload", "to_host"]


class SetBatch(Message):
    """Topic `commands.batch`, keyed by model. How one replica forms batches and shares its GPU."""

    id: Name
    replica: ReplicaName
    model: Name
    batch_size: Annotated[int, Field(ge=1)]
    wait_ms: Annotated[float, Field(ge=0)]
    serving_share: Share  # of its GPU's compute while training waits; what all leave over trains


class Ack(Message):
    """Topic `commands.acks`, keyed by command id. Accepted on receipt, done once it holds."""

    command_id: Name
    status: Literal["accepted", "done", "failed"]
    reason: str = ""
    at_ms: EpochMs


class Route(Message):
    """One replica of a `RoutingTable`."""

    replica: ReplicaName
    concurrency: Annotated[int, Field(ge=0)]  # requests it may hold at once; 0: leave it training


class RoutingTable(Message):
    """Topic `routing.table`, keyed by model. What the router may use, in the order it should."""

    model: Name
    epoch: Annotated[int, Field(ge=0)]
    tick: Annotated[int, Field(ge=0)]
    theta: Annotated[float, Field(gt=0, le=1)]  # part of the objective that a prediction may fill
    replicas: tuple[Route, ...]


class Explanation(Message):
    """Topic `decisions.explained`, keyed by model. Why a tick did what it did, in numbers.

    Of an override, `model` is its target, which may be a node or `all`.
    """

    model: Name
    epoch: Annotated[int, Field(ge=0)]
    tick: Annotated[int, Field(ge=0)]
    at_ms: EpochMs
    action: Literal["scale", "batch", "theta", "hold", "override", "foreign", "shadow"]
    text: str
    bound: str  # which bound held: demand, forecast, replicas_min, memory, no_data, ...
    numbers: dict[str, float]  # seen, foreseen and rejected, by name with unit
    commands: tuple[str, ...] = ()


class Override(Message):
    """Topic `operator.overrides`, keyed by target. What a person has set, until it is over.

    A pause leaves a model as it is, a pin gives it exactly `replicas`, a cordon keeps new replicas
    off a node, and with `drain` moves away those that are there. A target has one override at a
    time: the newest. A tombstone ends it at once.
    """

    target: Name  # a model, a node, or `all` models
    kind: Literal["pause", "pin", "cordon"]
    replicas: Annotated[int, Field(ge=0, le=100_000)] | None = None  # of a pin
    drain: bool = False  # of a cordon
    by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""
    # Before the year 10,000, which no calendar here can print; None: until somebody ends it.
    until_ms: Annotated[int, Field(ge=0, lt=253_402_300_800_000)] | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> "Override":
        if (self.kind == "pin") != (self.replicas is not None):
            raise ValueError("a pin says how many replicas, and nothing else does")
        if self.drain and self.kind != "cordon":
            raise ValueError("only a cordon drains")
        if self.target == ALL and self.kind != "pause":
            raise ValueError(f"{ALL} can be paused, and nothing else")
        return self


class LeaderClaim(Message):
    """Topic `scheduler.leader`, key `leader`. The record's offset is the epoch of this leader."""

    instance: Name
    at_ms: EpochMs


# --- Samples from apps ----------------------------------------------------------------------------


class AppSample(Message):
    """One value of an `AppSamples`."""

    metric: Name
    kind: Literal["counter", "gauge"] = "gauge"
    model: str = ""
    value: float


class AppSamples(Message):
    """Topic `metrics.samples` as JSON, keyed by node or model, for apps without Protobuf."""

    source: Name
    node: str = ""
    at_ms: EpochMs
    next_by_ms: EpochMs  # until then the values hold; after it they are stale
    samples: tuple[AppSample, ...] = Field(min_length=1, max_length=10_000)


# --- What is known ahead: cron, alerts, apps -> predictor -----------------------------------------


class LoadTrigger(Message):
    """Topic `load.triggers`, keyed by model. A fact known ahead: its load rises at `at_ms`.

    How much is said in one of two ways: as the whole rate, or as so many times what would have
    come. A trigger only ever lifts a forecast. One of the same model, kind and time again is the
    same one, as said last.
    """

    model: Name
    at_ms: EpochMs  # when the lift begins
    kind: Literal["cron", "warning", "app"] = "app"
    expected_rate_rps: Annotated[float, Field(gt=0, le=1e9)] | None = None
    factor: Annotated[float, Field(ge=1, le=1000)] | None = None
    duration_s: Annotated[float, Field(ge=1, le=7 * 86_400)]  # a week: longer, it is the load

    @model_validator(mode="after")
    def _check_one_way(self) -> "LoadTrigger":
        if (self.expected_rate_rps is None) == (self.factor is None):
            raise ValueError("either expected_rate_rps or factor says how much comes, and not both")
        return self


# --- Inventory: apps <-> inventory ----------------------------------------------------------------


class OrderLine(Message):
    """One item of an order; only a correction may have a quantity below 0."""

    item: Name
    quantity: Quantity


class InventoryOrder(Message):
    """Topic `inventory.orders`, keyed by order id. All lines or none.

    `reserve` holds stock for `ttl_s`; an `order` or `release` that names it as its `reservation`
    takes what is held, or gives it back, and needs no lines. `correct` adds signed quantities.
    """

    order_id: Name
    kind: OrderKind = "order"
    lines: tuple[OrderLine, ...] = Field((), max_length=1000)
    customer: str = ""
    reservation: Name | None = None
    ttl_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = 900

    @model_validator(mode="after")
    def _check_what_each_kind_needs(self) -> "InventoryOrder":
        if self.kind == "release" and self.reservation is None:
            raise ValueError("a release names its reservation")
        if self.kind not in ("order", "release") and self.reservation is not None:
            raise ValueError(f"{self.kind}: only an order or a release names a reservation")
        if not self.lines and self.reservation is None:
            raise ValueError("lines: at least one is wanted")
        for line in self.lines:
            if line.quantity == 0 or (line.quantity < 0 and self.kind != "correct"):
                raise ValueError(f"{line.item}: a quantity of {line.quantity} for {self.kind}")
        return self


class InventoryVerdict(Message):
    """Topic `inventory.verdicts`, keyed by order id. The one answer to an order."""

    order_id: Name
    verdict: Literal[Moved, "rejected"]
    reason: str = ""
    decided_at_ms: EpochMs


class InventoryUpdated(Message):
    """Topic `inventory.updated`, keyed by item. A fact: the books of one item have changed.

    The stock moved by -quantity where deducted or reserved, by +quantity where released, restocked
    or corrected; fulfilled units were reserved before, and are gone now. A reservation that ended
    by itself is `released` under its own order id.
    """

    item: Name
    quantity: Quantity  # units moved, not left
    status: LineStatus
    order_id: Name
    version: Annotated[int, Field(ge=1)]  # of the item's books, one more with each change
    decided_at_ms: EpochMs


class StockLevel(Message):
    """Topic `inventory.stock`, compacted, keyed by item. Its books as one of its changes left them.

    Of several changes in one transaction only the last is told, so versions may be passed over.
    """

    item: Name
    stock: Annotated[int, Field(ge=0)]
    reserved: Annotated[int, Field(ge=0)]
    version: Annotated[int, Field(ge=1)]  # of `inventory.updated`, up to which this is the sum
    at_ms: EpochMs


class Reconciled(Message):
    """Topic `inventory.reconciled`, keyed by item. A place that said something else than the books.

    `found` and `expected` are in words, such as `stock 3, reserved 0, version 7` or `nothing`.
    """

    item: Name
    place: Literal["database", "log", "stock", "cache"]
    drift: Literal["missing", "extra", "wrong", "reordered"]
    found: str
    expected: str
    action: Literal["repaired", "to_people"]
    at_ms: EpochMs
