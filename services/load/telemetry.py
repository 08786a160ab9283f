"""What the load generator counts."""

from prometheus_client import Counter, Histogram

SENT = Counter("plimsoll_load_sent_total", "Requests that the bus has acknowledged", ["model"])
LATENESS = Histogram(
    "plimsoll_load_lateness_seconds",
    "From the time at which a request was due to its acknowledgement by the bus",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 10),
)
