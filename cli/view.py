"""What stands on the topics, folded into one view of the fleet: no bus, no clock, no rendering.

`fold` takes one record after the other, so the live view, the demo's report and the tests all see
the same. A record that cannot be read is passed over: it is somebody else's to bury.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cli.figures import increase, quantile_of_buckets
from libs.common import plimsoll_pb2 as pb
from libs.common import series, topics
from libs.common.errors import ContractError
from libs.common.messages import (
    Explanation,
    FleetState,
    LeaderClaim,
    ModelSpec,
    ReplicaState,
    RoutingTable,
    ScaleModel,
    SetBatch,
)
from libs.common.ports import Record
from libs.common.ticks import Chains, Wait, layout_id
from libs.common.wire import read

Floats = npt.NDArray[np.float64]

FOLLOWED = (
    topics.REGISTRY_MODELS,
    topics.METRICS_LAYOUTS,
    topics.METRICS_SAMPLES,
    topics.LOAD_FORECASTS,
    topics.FLEET_STATE,
    topics.ROUTING_TABLE,
    topics.COMMANDS_SCALING,
    topics.COMMANDS_BATCH,
    topics.DECISIONS_EXPLAINED,
    topics.SCHEDULER_LEADER,
    topics.SCHEDULER_TICKS,
    topics.DEAD_LETTERS,
)

# Orders are written when they change, so the one in force may be hours old.
ORDERS = (topics.COMMANDS_SCALING, topics.COMMANDS_BATCH)

# A rate is taken over 2 s, twenty samples of the router; a p99 over 10 s.
RATE_OVER_MS = 2_000
LATENCY_OVER_MS = 10_000
DECISIONS_KEPT = 1000


@dataclass
class Totals:
    """The counters and gauges of one thing, by name; counters run on across restarts."""

    values: dict[str, float] = field(default_factory=dict)
    buckets: Floats = field(default_factory=lambda: np.zeros(series.LATENCY_BUCKETS))
    recent: deque[tuple[int, dict[str, float], Floats]] = field(default_factory=deque)

    def remember(self, at_ms: int) -> None:
        """Keep what is known at `at_ms`, and forget what is too old for any figure."""
        self.recent.append((at_ms, dict(self.values), self.buckets.copy()))
        while self.recent[0][0] < at_ms - LATENCY_OVER_MS:
            self.recent.popleft()

    def rate_per_s(self, name: str, over_ms: int = RATE_OVER_MS) -> float | None:
        """Return how fast a counter grew of late; None before two samples."""
        before = self._before(over_ms)
        if before is None or name not in before[1]:
            return None
        elapsed_s = (self.recent[-1][0] - before[0]) / 1000
        return (self.values[name] - before[1][name]) / elapsed_s

    def latency_ratio(self, q: float) -> float | None:
        """Return a quantile of latency / objective over the last 10 s; None without an end."""
        before = self._before(LATENCY_OVER_MS)
        if before is None:
            return None
        return quantile_of_buckets(self.buckets - before[2], series.LATENCY_RATIO_EDGES, q)

    def _before(self, over_ms: int) -> tuple[int, dict[str, float], Floats] | None:
        if len(self.recent) < 2:
            return None
        newest_ms = self.recent[-1][0]
        for kept in self.recent:
            if kept[0] >= newest_ms - over_ms and kept[0] < newest_ms:
                return kept
        return None


@dataclass
class ModelView:
    """One model: what it is, what it gets, what is foreseen and what was decided."""

    spec: ModelSpec | None = None
    totals: Totals = field(default_factory=Totals)
    forecast: pb.LoadForecast | None = None
    target: int | None = None  # replicas, as the scheduler last ordered
    batches: dict[str, SetBatch] = field(default_factory=dict)  # by replica
    table: RoutingTable | None = None


@dataclass
class View:
    """Everything that a person may want to see of the fleet, as of the last record."""

    models: dict[str, ModelView] = field(default_factory=dict)
    devices: dict[str, Totals] = field(default_factory=dict)  # by node/gpu
    nodes: dict[str, FleetState] = field(default_factory=dict)
    decisions: deque[Explanation] = field(default_factory=lambda: deque(maxlen=DECISIONS_KEPT))
    leader: str = ""
    epoch: int = -1
    tick: int = -1
    tick_at_ms: int = 0
    dead_letters: int = 0
    _layouts: dict[str, pb.Layout] = field(default_factory=dict)
    _chains: Chains = field(default_factory=Chains)
    _last: dict[str, tuple[int, Floats]] = field(default_factory=dict)  # by layout id

    def model(self, name: str) -> ModelView:
        """Return the view of a model, made where it is new."""
        return self.models.setdefault(name, ModelView())

    def replicas(self, model: str) -> list[ReplicaState]:
        """Return all replicas of a model, wherever they are."""
        return [r for node in self.nodes.values() for r in node.replicas if r.model == model]

    def count(self, model: str, state: str) -> int:
        """Return how many replicas of a model are in `state`."""
        return sum(replica.state == state for replica in self.replicas(model))


def fold(view: View, record: Record) -> None:
    """Bring `view` up to date with one record; nothing else changes."""
    if record.topic == topics.DEAD_LETTERS.name:
        view.dead_letters += 1
        return
    if record.topic == topics.SCHEDULER_TICKS.name:
        # Its value, the whole state of the scheduler, is for replays.
        view.tick = int(record.headers.get("tick", b"-1"))
        view.tick_at_ms = record.timestamp_ms
        return
    try:
        message = read(record)
    except ContractError:
        return
    match message:
        case pb.Tick():
            _fold_tick(view, message)
        case pb.Layout():
            view._layouts[message.layout_id] = message
        case pb.LoadForecasts():
            for forecast in message.forecasts:
                view.model(forecast.model).forecast = forecast
        case ModelSpec():
            view.model(message.name).spec = message
        case FleetState():
            view.nodes[message.node] = message
        case RoutingTable():
            view.model(message.model).table = message
        case ScaleModel():
            view.model(message.model).target = message.replicas
        case SetBatch():
            view.model(message.model).batches[message.replica] = message
        case Explanation():
            view.decisions.append(message)
        case LeaderClaim():
            view.leader, view.epoch = message.instance, record.offset


def _fold_tick(view: View, tick: pb.Tick) -> None:
    """Add a tick's counters up and take over its gauges, for models and devices."""
    layout = view._layouts.get(layout_id(tick))
    if layout is None:
        return  # the layout is on its way by another topic, and the next key a second behind
    try:
        values = view._chains.read(tick, layout)
    except ContractError:
        return
    if isinstance(values, Wait):
        return
    last_ms, last = view._last.get(layout.layout_id, (-1, np.full(len(values), np.nan)))
    if tick.at_ms <= last_ms:
        return
    touched: dict[int, Totals] = {}
    for one, before, now in zip(layout.series, last, values, strict=True):
        totals = _totals_of(view, one)
        if totals is None or np.isnan(now):
            continue
        touched[id(totals)] = totals
        if one.kind == pb.Series.GAUGE:
            totals.values[one.metric] = float(now)
            continue
        grown = 0.0 if np.isnan(before) else increase(float(before), float(now))
        if one.metric == series.LATENCY_RATIO:
            totals.buckets[one.bucket] += grown
        elif not one.device_type or one.device:
            totals.values[one.metric] = totals.values.get(one.metric, 0.0) + grown
    for totals in touched.values():
        totals.remember(tick.at_ms)
    view._last[layout.layout_id] = (tick.at_ms, np.where(np.isnan(values), last, values))


def _totals_of(view: View, one: pb.Series) -> Totals | None:
    if one.device:
        return view.devices.setdefault(one.device, Totals())
    return view.model(one.model).totals if one.model else None
