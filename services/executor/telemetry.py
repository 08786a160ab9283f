"""The executor's own figures on `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

from libs.common.telemetry import Sum
from libs.common.topics import (
    COMMANDS_BATCH,
    COMMANDS_PLACEMENT,
    COMMANDS_SCALING,
    ROUTING_TABLE,
)

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
ARRIVALS = Counter("plimsoll_arrivals_total", "Requests as the router saw them", ["model"])
REQUESTS = Counter("plimsoll_requests_total", "Requests ended", ["model", "status"])
LATENCY_RATIO = Histogram(
    "plimsoll_request_latency_ratio",
    "Latency of a served request, due to ended, in parts of its objective",
    ["model"],
    buckets=(0.1, 0.25, 0.5, 0.7, 0.85, 1, 1.25, 1.5, 2, 4, 8),
)
QUEUE = Gauge("plimsoll_queue_requests", "Requests that no replica runs yet", ["model"])
IN_FLIGHT = Gauge("plimsoll_in_flight_requests", "Requests in running batches", ["model"])
# Standby: resident, and the router may send it nothing. Awake: it may.
REPLICA_STATES = ("loading", "standby", "awake", "draining")
REPLICAS = Gauge("plimsoll_replicas", "Replicas there are", ["model", "state"])
OUT_OF_MEMORY = Counter("plimsoll_oom_total", "Replicas killed by an allocation above capacity")
GPU_SECONDS = Sum(
    "plimsoll_gpu_seconds_total",
    "GPU time, by what it is charged to: serving, training or free",
    ["node", "gpu", "kind"],
)
GPU_BUSY = Sum(
    "plimsoll_gpu_busy_seconds_total",
    "GPU time in kernels of requests completed and of training steps kept",
    ["node", "gpu", "kind"],
)
MEMORY_USED = Gauge("plimsoll_gpu_memory_used_bytes", "GPU memory taken", ["node", "gpu"])
MEMORY_TOTAL = Gauge("plimsoll_gpu_memory_total_bytes", "GPU memory there is", ["node", "gpu"])
STEPS = Sum("plimsoll_training_steps_total", "Training steps kept", ["node", "gpu"])
OUTBOX = Gauge("plimsoll_executor_outbox_messages", "Messages that wait for the broker")


def begin(model: str) -> None:
    """Count a model's requests from 0 on: an increase from nothing would be none."""
    ARRIVALS.labels(model)
    LATENCY_RATIO.labels(model)
    for status in ("ok", "late", "rejected"):
        REQUESTS.labels(model, status)


for _topic in (COMMANDS_SCALING, COMMANDS_PLACEMENT, COMMANDS_BATCH, ROUTING_TABLE):
    STALE.labels(_topic.name)
