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
REDIS_UP = Gauge("plimsoll_redis_up", "1 while Redis answers, 0 while not, NaN where none is set")
REDIS_UP.set(math.nan)
REDIS_WRITTEN = Counter(
    "plimsoll_redis_written_total", "Records of which Redis was given the copy", ["topic"]
)
REDIS_REBUILDS = Counter(
    "plimsoll_redis_rebuilds_total", "How often Redis was filled from the log anew"
)
