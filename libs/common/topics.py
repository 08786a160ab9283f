"""The one table of topics: name, key, partitions, retention and contract of everything on the bus.

Nothing is created by a broker on its own: `plimsoll topics apply` makes what stands here, and a
service refuses to start when a topic or its partition count is another.
"""

from typing import NamedTuple

from libs.common import messages
from libs.common import plimsoll_pb2 as pb
from libs.common.messages import Message

# Partitions of what scales out with the predictor and the inventory; all else has one.
PARTITIONS = 4
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SNAPSHOT_SEGMENT_BYTES = 32 * 1024 * 1024


class Topic(NamedTuple):
    """One row of the table. `contract` is a pydantic class (JSON), a Protobuf one, or None."""

    name: str
    key: str
    contract: type[Message] | type | None
    partitions: int = 1
    compacted: bool = False
    retention_ms: int | None = DAY_MS  # None: for ever, as compacted topics are kept
    from_apps: bool = False  # people and apps write here, so anything may arrive
    route: str = ""  # from -> to, for the docs

    @property
    def is_json(self) -> bool:
        """Whether the contract is a pydantic class, carried as JSON."""
        return isinstance(self.contract, type) and issubclass(self.contract, Message)

    @property
    def kept(self) -> str:
        """For how long its records stay, in words: `compacted, 1 d`."""
        said = ["compacted"] if self.compacted else []
        if self.retention_ms is not None:
            days, hours = divmod(self.retention_ms // HOUR_MS, 24)
            said.append(f"{days} d" if days else f"{hours} h")
        return ", ".join(said)

    def config(self) -> dict[str, str]:
        """The broker's settings of this topic."""
        out = {"cleanup.policy": "compact" if self.compacted else "delete"}
        if self.compacted and self.retention_ms is not None:
            out["cleanup.policy"] = "compact,delete"
        if self.compacted:
            # A broker never compacts the segment that it writes to, so segments must end early.
            out["segment.ms"] = str(HOUR_MS)
        if self.retention_ms is not None:
            out["retention.ms"] = str(self.retention_ms)
        if self is METRICS_SAMPLES:
            # What a sample may do is judged by the time that its record bears: the broker's, which
            # a replay finds unchanged, and not that of a sender whose clock may be wrong.
            out["message.timestamp.type"] = "LogAppendTime"
        if self is PREDICTOR_SNAPSHOTS:
            # Each second brings a new copy of all: short segments, so that few of them are kept.
            out["segment.bytes"] = str(SNAPSHOT_SEGMENT_BYTES)
            out["min.cleanable.dirty.ratio"] = "0.1"
        if self is DEAD_LETTERS:
            # The largest message that a broker takes by default must fit with its reason around it.
            out["max.message.bytes"] = str(2 * 1024 * 1024)
        return out


def _kept(name: str, key: str, contract: type, route: str, *, from_apps: bool = False) -> Topic:
    return Topic(
        name, key, contract, compacted=True, retention_ms=None, from_apps=from_apps, route=route
    )


METRICS_LAYOUTS = _kept("metrics.layouts", "layout id", pb.Layout, "metrics, executor → predictor")
METRICS_SAMPLES = Topic(
    "metrics.samples",
    "node or model",
    pb.Tick,
    PARTITIONS,
    retention_ms=HOUR_MS,
    from_apps=True,
    route="metrics, executor, apps → predictor",
)
INFERENCE_REQUESTS = Topic(
    "inference.requests",
    "request id",
    messages.InferenceRequest,
    retention_ms=HOUR_MS,
    from_apps=True,
    route="apps → executor",
)
INFERENCE_RESULTS = Topic(
    "inference.results",
    "request id",
    messages.InferenceResult,
    retention_ms=HOUR_MS,
    route="executor → apps",
)
LOAD_TRIGGERS = Topic(
    "load.triggers",
    "model",
    messages.LoadTrigger,
    from_apps=True,
    route="cron, alerts, apps → predictor",
)
LOAD_FORECASTS = Topic(
    "load.forecasts",
    "predictor partition",
    pb.LoadForecasts,
    compacted=True,
    route="predictor → scheduler",
)
NODE_SCORES = Topic(
    "node.scores",
    "predictor partition",
    pb.NodeScores,
    compacted=True,
    route="predictor → scheduler",
)
PREDICTOR_SNAPSHOTS = Topic(
    "predictor.snapshots",
    "predictor partition / chunk",
    pb.SnapshotChunk,
    PARTITIONS,
    compacted=True,
    retention_ms=None,
    route="predictor → predictor",
)
REGISTRY_MODELS = _kept(
    "registry.models", "model", messages.ModelSpec, "operators → all", from_apps=True
)
REGISTRY_DEVICES = _kept("registry.devices", "device", messages.DeviceSpec, "executor → all")
OPERATOR_OVERRIDES = _kept(
    "operator.overrides", "target", messages.Override, "operators → scheduler", from_apps=True
)
SCHEDULER_LEADER = _kept(
    "scheduler.leader", "`leader`", messages.LeaderClaim, "scheduler → scheduler"
)
SCHEDULER_TICKS = Topic(
    "scheduler.ticks", "–", pb.TickRecord, route="leader → standbys, executor, replay"
)
COMMANDS_SCALING = Topic(
    "commands.scaling", "model", messages.ScaleModel, route="scheduler → executor"
)
COMMANDS_PLACEMENT = Topic(
    "commands.placement", "node", messages.PlaceReplica, route="scheduler → executor"
)
COMMANDS_BATCH = Topic("commands.batch", "model", messages.SetBatch, route="scheduler → executor")
COMMANDS_ACKS = Topic("commands.acks", "command id", messages.Ack, route="executor → scheduler")
FLEET_STATE = _kept("fleet.state", "node", messages.FleetState, "executor → scheduler, people")
ROUTING_TABLE = _kept("routing.table", "model", messages.RoutingTable, "scheduler → executor")
DECISIONS_EXPLAINED = Topic(
    "decisions.explained", "model", messages.Explanation, route="scheduler → people"
)
INVENTORY_ORDERS = Topic(
    "inventory.orders",
    "order id",
    messages.InventoryOrder,
    PARTITIONS,
    retention_ms=7 * DAY_MS,
    from_apps=True,
    route="apps → inventory",
)
INVENTORY_VERDICTS = Topic(
    "inventory.verdicts",
    "order id",
    messages.InventoryVerdict,
    PARTITIONS,
    retention_ms=7 * DAY_MS,
    route="inventory → apps",
)
INVENTORY_UPDATED = Topic(
    "inventory.updated",
    "item",
    messages.InventoryUpdated,
    PARTITIONS,
    retention_ms=7 * DAY_MS,
    route="inventory → apps",
)
INVENTORY_STOCK = Topic(
    "inventory.stock",
    "item",
    messages.StockLevel,
    PARTITIONS,
    compacted=True,
    retention_ms=None,
    route="inventory → apps, its own caches",
)
INVENTORY_RECONCILED = Topic(
    "inventory.reconciled",
    "item",
    messages.Reconciled,
    retention_ms=7 * DAY_MS,
    route="inventory → people",
)
DEAD_LETTERS = Topic(
    "dead.letters", "topic of origin", None, retention_ms=7 * DAY_MS, route="all → people"
)

TOPICS: tuple[Topic, ...] = tuple(
    value for value in list(globals().values()) if type(value) is Topic
)
BY_NAME = {topic.name: topic for topic in TOPICS}


def as_markdown() -> str:
    """Return the table as it stands in `docs/architecture.md`; a test keeps the two alike."""
    head = "| topic | partitions | key | encoding | kept | from → to |"
    lines = [head, "| --- " * 6 + "|"]
    for topic in TOPICS:
        encoding = "JSON" if topic.is_json else "Protobuf" if topic.contract else "as it came"
        cells = [
            f"`{topic.name}`",
            str(topic.partitions),
            topic.key,
            encoding,
            topic.kept,
            topic.route,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
