"""The executor's own figures on `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

# Fine where the objective lies, so that p50 and p99 can be interpolated from the buckets.
LOOP_BUCKETS_S = (*(i / 100 for i in range(1, 41)), 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)

LOOP_LATENCY = Histogram(
    "plimsoll_loop_latency_seconds",
    "From a router sample to the first tick record that covers it",
    buckets=LOOP_BUCKETS_S,
)
COMMANDS = Counter(
    "plimsoll_commands_total",
    "Commands answered, by topic and by what was said of them",
    ["topic", "status"],
)
STALE = Counter(
    "plimsoll_commands_stale_total",
    "Commands and tables refused because their leader leads no more",
    ["topic"],
)
COMMAND_LATENCY = Histogram(
    "plimsoll_command_latency_seconds",
    "From a command's record to its acknowledgement",
    ["stage"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 10, 30, 60),
)
REQUESTS = Counter("plimsoll_requests_total", "Requests ended", ["model", "status"])
OUT_OF_MEMORY = Counter("plimsoll_oom_total", "Replicas killed by an allocation above capacity")
GPU_HOURS = Counter("plimsoll_gpu_hours_total", "GPU time, by what it is charged to", ["kind"])
OUTBOX = Gauge("plimsoll_executor_outbox_messages", "Messages that wait for the broker")
