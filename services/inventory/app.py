"""Orders in, verdicts out: the loop that decides, and the loop that publishes from the outbox.

A batch of orders is one transaction: stock, verdicts, and the messages about them. Offsets are
committed after it, and messages leave the outbox after the bus has acknowledged them. So a crash
anywhere repeats something, under ids that derive from the orders, and never loses or doubles.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from libs.common.intake import sift
from libs.common.messages import InventoryOrder, Message
from libs.common.ports import (
    Announcement,
    Bus,
    Clock,
    GroupReader,
    Ledger,
    Outgoing,
    Record,
    Settled,
    Shortage,
    Store,
)
from libs.common.topics import INVENTORY_ORDERS, INVENTORY_UPDATED, INVENTORY_VERDICTS, Topic
from libs.common.wire import Origin, encode
from services.inventory import telemetry
from services.inventory.core import orders
from services.inventory.core.orders import Asked, Settlement
from services.inventory.settings import InventorySection

GROUP = "inventory"
POLL_S = 1.0
LOOK_S = 1.0  # at the outbox unasked: another instance may have ended and left something there
RELAY_MAX = 1000  # messages published and taken out of the outbox at once


class Inventory:
    """One instance of the service over its ports."""

    def __init__(
        self, store: Store, bus: Bus, clock: Clock, origin: Origin, section: InventorySection
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._origin = origin
        self._section = section
        self._outbox_filled = asyncio.Event()
        self._oldest_unsent_ms: int | None = None

    async def serve(self) -> None:
        """Decide and publish for ever; an exception in either ends both."""
        telemetry.OUTBOX_AGE.set_function(self.outbox_age_s)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decide())
            tasks.create_task(self._relay())

    async def take(self, reader: GroupReader, max_wait_s: float) -> None:
        """Settle what the bus has for us, batch by batch, each with its offsets."""
        records = await reader.poll(max_wait_s)
        for batch in batches(records, self._section.batch_bytes):
            await self._take_batch(batch)
            await reader.commit({(r.topic, r.partition): r.offset + 1 for r in batch})

    async def relay(self) -> bool:
        """Publish what has waited longest in the outbox; returns whether there was anything."""
        async with self._store.turn():  # or two instances would each publish all of it
            unsent = await self._store.unsent(RELAY_MAX)
            if not unsent:
                self._oldest_unsent_ms = None
                return False
            self._oldest_unsent_ms = next(iter(unsent.values())).decided_at_ms
            await self._bus.publish([waiting.message for waiting in unsent.values()])
            await self._store.sent(list(unsent))
        now_ms = self._clock.now_ms()
        for waiting in unsent.values():
            if waiting.message.topic == INVENTORY_VERDICTS.name:
                latency_ms = max(0, now_ms - waiting.ordered_at_ms)
                telemetry.VERDICT_LATENCY.observe(latency_ms / 1000)
        return True

    def outbox_age_s(self) -> float:
        """Return the age of the oldest message that has been decided and not published."""
        if self._oldest_unsent_ms is None:
            return 0.0
        return max(0, self._clock.now_ms() - self._oldest_unsent_ms) / 1000

    def outbox_fault(self) -> str | None:
        """Return what keeps the service from being ready, as `Health.ready_when` wants it."""
        age_s = self.outbox_age_s()
        return f"outbox is {age_s:.0f} s old" if age_s > self._section.outbox_stale_s else None

    async def _decide(self) -> None:
        async with self._bus.subscribe([INVENTORY_ORDERS], GROUP) as reader:
            while True:
                await self.take(reader, POLL_S)

    async def _relay(self) -> None:
        while True:
            # Cleared before the look, so that what is committed during it is looked at next.
            self._outbox_filled.clear()
            if not await self.relay():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._outbox_filled.wait()

    async def _take_batch(self, batch: Sequence[Record]) -> None:
        readable = await sift(batch, InventoryOrder, self._bus, self._origin)
        if readable:
            verdicts = await self._store.transact(lambda ledger: self._settle(ledger, readable))
            self._outbox_filled.set()
            for verdict in verdicts:
                telemetry.ORDERS.labels(verdict).inc()

    async def _settle(
        self, ledger: Ledger, batch: Sequence[tuple[Record, InventoryOrder]]
    ) -> list[str]:
        """Settle a batch within one transaction; returns the verdict of each order."""
        now_ms = self._clock.now_ms()
        asked_of_all = [orders.read(order) for _, order in batch]
        items = sorted({item for asked in asked_of_all for item in asked.quantities})
        priors = await ledger.open([asked.order_id for asked in asked_of_all], items)
        known = {order_id: Settlement(*prior) for order_id, prior in priors.items()}
        new: list[Settled] = []
        outbox: list[Announcement] = []
        verdicts: list[str] = []
        for (record, _), asked in zip(batch, asked_of_all, strict=True):
            prior = known.get(asked.order_id)
            settlement = orders.judge(asked, prior, now_ms)
            if settlement is None:
                settlement = await _ask_stock(ledger, asked, now_ms)
            if prior is None:
                known[asked.order_id] = settlement  # it may come again within this batch
                new.append(Settled(settlement.content, settlement.verdict))
            for message in messages_of(settlement, self._origin):
                outbox.append(Announcement(message, record.timestamp_ms, now_ms))
            verdicts.append(settlement.verdict.verdict)
        await ledger.settle(new, outbox)
        return verdicts


async def _ask_stock(ledger: Ledger, asked: Asked, now_ms: int) -> Settlement:
    if asked.kind == "restock":
        return orders.settle(asked, await ledger.restock(asked.quantities), now_ms)
    outcome = await ledger.deduct(asked.quantities)
    if isinstance(outcome, Shortage):
        return orders.fall_short(asked, outcome.item, outcome.in_stock, now_ms)
    return orders.settle(asked, outcome, now_ms)


def batches(records: Sequence[Record], batch_bytes: int) -> Iterator[Sequence[Record]]:
    """Cut what was polled into transactions of bounded work; each has at least one record.

    The bound is in bytes because an order of a thousand lines is as much work as a thousand orders.
    """
    start, size = 0, 0
    for end, record in enumerate(records):
        length = len(record.value or b"")
        if end > start and size + length > batch_bytes:
            yield records[start:end]
            start, size = end, 0
        size += length
    if records:
        yield records[start:]


def messages_of(settlement: Settlement, origin: Origin) -> list[Outgoing]:
    """Return the verdict's message, then one for each changed item, under ids that repeat."""
    content, verdict = settlement.content, settlement.verdict
    messages: list[tuple[Topic, str, Message]] = [
        (INVENTORY_VERDICTS, verdict.order_id, verdict),
        *((INVENTORY_UPDATED, update.item, update) for update in settlement.updates),
    ]
    said = []
    for position, (topic, key, message) in enumerate(messages):
        event_id = orders.event_id(verdict.order_id, content, position)
        said.append(encode(topic, key, message, origin, event_id, verdict.decided_at_ms))
    return said
