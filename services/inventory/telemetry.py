"""The metrics of the inventory service."""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from libs.common.messages import InventoryVerdict
from services.inventory.core.orders import CAUSES

ORDERS = Counter("plimsoll_inventory_orders_total", "Orders answered, by verdict", ["verdict"])
REJECTIONS = Counter(
    "plimsoll_inventory_rejections_total", "Orders rejected, by what was wrong", ["cause"]
)
EXPIRED = Counter(
    "plimsoll_inventory_expired_total", "Reservations that ended because their time was over"
)
# Counted from 0: an increase from nothing would be none.
for _verdict in get_args(InventoryVerdict.model_fields["verdict"].annotation):
    ORDERS.labels(_verdict)
for _cause in CAUSES:
    REJECTIONS.labels(_cause)
OUTBOX_AGE = Gauge(
    "plimsoll_inventory_outbox_age_seconds", "Since the oldest unpublished message was decided"
)
VERDICT_LATENCY = Histogram(
    "plimsoll_inventory_verdict_latency_seconds",
    "From an order's timestamp to the acknowledged publishing of its verdict",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5, 10),
)
