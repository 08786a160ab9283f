"""The metrics of the inventory service."""

from prometheus_client import Counter, Gauge, Histogram

ORDERS = Counter("plimsoll_inventory_orders_total", "Orders answered, by verdict", ["verdict"])
for _verdict in ("deducted", "restocked", "rejected"):
    ORDERS.labels(_verdict)  # counted from 0: an increase from nothing would be none
OUTBOX_AGE = Gauge(
    "plimsoll_inventory_outbox_age_seconds", "Since the oldest unpublished message was decided"
)
VERDICT_LATENCY = Histogram(
    "plimsoll_inventory_verdict_latency_seconds",
    "From an order's timestamp to the acknowledged publishing of its verdict",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 10),
)
