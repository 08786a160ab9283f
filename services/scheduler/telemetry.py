"""What the scheduler counts."""

import math

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 10)

TICK_DURATION = Histogram(
    "plimsoll_scheduler_tick_duration_seconds",
    "From a tick's observation to its committed transaction",
    buckets=_BUCKETS,
)
TICK_LATENESS = Histogram(
    "plimsoll_scheduler_tick_lateness_seconds",
    "From a tick's time on the grid to its observation; the wait for forecasts is part of it",
    buckets=_BUCKETS,
)
DECISIONS = Counter(
    "plimsoll_decisions_total", "Decisions explained, by bound that held", ["action", "reason"]
)
LEADER = Gauge("plimsoll_scheduler_leader", "1 while this instance leads")
EPOCH = Gauge("plimsoll_scheduler_epoch", "Epoch of this instance's last term")
REPLICAS_TARGET = Gauge("plimsoll_replicas_target", "Target number of replicas", ["model"])
MOVES = Counter("plimsoll_moves_total", "Replicas ordered to load or to leave", ["model", "action"])
DEMAND = Gauge(
    "plimsoll_demand_rps", "Arrivals, and the queue as the rate that drains it in 1 s", ["model"]
)
FORESEEN = Gauge(
    "plimsoll_foreseen_rps", "Load over the lead time that replicas are placed for", ["model"]
)
CAPACITY = Gauge(
    "plimsoll_capacity_rps",
    "What the resident replicas carry within the objective, in full batches",
    ["model"],
)
BATCH_SIZE = Gauge(
    "plimsoll_batch_size_requests", "Largest batch set among a model's replicas", ["model"]
)
THETA = Gauge(
    "plimsoll_theta_ratio",
    "Part of the objective that the router lets a prediction fill",
    ["model"],
)
HELD = Gauge("plimsoll_held", "1 while decisions are held for want of data", ["model"])
SHADOW = Gauge(
    "plimsoll_shadow_gpus",
    "In shadow mode, replicas times their GPUs: what ran, and what the targets would have",
    ["side"],
)
FOREIGN = Counter(
    "plimsoll_foreign_changes_total",
    "Replicas that appeared or vanished without an order of ours",
    ["model", "change"],
)
OVERRIDES = Gauge("plimsoll_overrides", "What people have set that holds now")
# Only who leads knows these; whoever leads no more forgets them.
OF_MODELS = (REPLICAS_TARGET, DEMAND, FORESEEN, CAPACITY, BATCH_SIZE, THETA, HELD)
REDIS_UP = Gauge("plimsoll_redis_up", "1 while Redis answers, 0 while not, NaN where none is set")
REDIS_UP.set(math.nan)
REDIS_WRITTEN = Counter(
    "plimsoll_redis_written_total", "Records of which Redis was given the copy", ["topic"]
)
REDIS_REBUILDS = Counter(
    "plimsoll_redis_rebuilds_total", "How often Redis was filled from the log anew"
)
