"""What the scheduler counts."""

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
