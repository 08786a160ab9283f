"""Orders in, verdicts out: a loop that decides, one that publishes, one that looks after time.

A batch of orders is one transaction: stock, verdicts, and the messages about them. Offsets are
committed after it, and messages leave the outbox after the bus has acknowledged them. So a crash
anywhere repeats something, under ids that derive from the orders, and never loses or doubles.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from libs.common.intake import sift
from libs.common.messages import InventoryOrder, InventoryUpdated
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
from libs.common.topics import DAY_MS, INVENTORY_ORDERS, INVENTORY_UPDATED, INVENTORY_VERDICTS
from libs.common.wire import Origin, encode
from services.inventory import telemetry
from services.inventory.core import orders
from services.inventory.core.orders import Asked, Settlement
from services.inventory.settings import InventorySection

GROUP = "inventory"
POLL_S = 1.0
LOOK_S = 1.0  # at the outbox unasked: another instance may have ended and left something there
RELAY_MAX = 1000  # messages published and taken out of the outbox at once
EXPIRE_MAX = 200  # reservations ended in one transaction
FORGET_MAX = 5000  # orders forgotten in one


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
        """Decide, publish and look after time for ever; an exception in one ends all."""
        telemetry.OUTBOX_AGE.set_function(self.outbox_age_s)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decide())
            tasks.create_task(self._relay())
            tasks.create_task(self._look_after_time())

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

    async def expire(self) -> int:
        """End the reservations that are due; returns how many there were."""
        ended = await self._store.transact(self._end_due)
        if ended:
            self._outbox_filled.set()
            telemetry.EXPIRED.inc(ended)
        return ended

    async def forget(self) -> int:
        """Forget orders that are older than the bus would bring again; returns how many."""
        kept_ms = int(self._section.orders_kept_days * DAY_MS)
        return await self._store.forget(self._clock.now_ms() - kept_ms, FORGET_MAX)

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

    async def _look_after_time(self) -> None:
        while True:
            # Each says how many it did at most at once, so that orders come in between.
            if await self.expire() < EXPIRE_MAX and await self.forget() < FORGET_MAX:
                await self._clock.sleep_until_ms(self._clock.now_ms() + 1000 * LOOK_S)

    async def _take_batch(self, batch: Sequence[Record]) -> None:
        readable = await sift(batch, InventoryOrder, self._bus, self._origin)
        if readable:
            settlements = await self._store.transact(lambda ledger: self._settle(ledger, readable))
            self._outbox_filled.set()
            for settlement in settlements:
                telemetry.ORDERS.labels(settlement.verdict.verdict).inc()
                if settlement.cause is not None:
                    telemetry.REJECTIONS.labels(settlement.cause).inc()

    async def _settle(
        self, ledger: Ledger, batch: Sequence[tuple[Record, InventoryOrder]]
    ) -> list[Settlement]:
        """Settle a batch within one transaction."""
        now_ms = self._clock.now_ms()
        asked_of_all = [orders.read(order) for _, order in batch]
        items = sorted({item for asked in asked_of_all for item in asked.quantities})
        named = sorted({asked.reservation for asked in asked_of_all if asked.reservation})
        known = dict(await ledger.open([asked.order_id for asked in asked_of_all], items, named))
        new: list[Settled] = []
        outbox: list[Announcement] = []
        settlements: list[Settlement] = []
        for (record, _), asked in zip(batch, asked_of_all, strict=True):
            prior = known.get(asked.order_id)
            settlement = orders.judge(asked, prior, now_ms)
            if settlement is None:
                settlement = await _ask_books(ledger, asked, now_ms)
            if prior is None:
                settled = Settled(settlement.content, settlement.verdict)
                known[asked.order_id] = settled  # it may come again within this batch
                new.append(settled)
            for message in messages_of(settlement, self._origin):
                outbox.append(Announcement(message, record.timestamp_ms, now_ms))
            settlements.append(settlement)
        await ledger.settle(new, outbox)
        return settlements

    async def _end_due(self, ledger: Ledger) -> int:
        """Give back what reservations hold that are due, within one transaction."""
        now_ms = self._clock.now_ms()
        due = await ledger.expired(now_ms, EXPIRE_MAX)
        if not due:
            return 0
        await ledger.open([], [], due)
        outbox: list[Announcement] = []
        for order_id in due:
            held = await ledger.reservation(order_id)
            if held is None or held.state != "held":
                continue  # another instance was first
            await ledger.end(order_id, "expired")
            versions = await ledger.move(orders.moves("released", held.quantities))
            assert not isinstance(versions, Shortage), "giving back takes nothing"
            updates = orders.facts(order_id, "released", held.quantities, versions, now_ms)
            for message in said_of(updates, order_id, "expired", self._origin):
                outbox.append(Announcement(message, now_ms, now_ms))
        await ledger.settle([], outbox)
        return len(due)


async def _ask_books(ledger: Ledger, asked: Asked, now_ms: int) -> Settlement:
    quantities = asked.quantities
    if asked.reservation is not None:
        held = await ledger.reservation(asked.reservation)
        refusal = orders.judge_reservation(asked, held, now_ms)
        if refusal is not None:
            return refusal
        assert held is not None
        quantities = dict(held.quantities)
        await ledger.end(asked.reservation, asked.status)
    moves = orders.moves(asked.status, quantities)
    outcome = await ledger.move(moves, may_add=asked.kind == "restock")
    if isinstance(outcome, Shortage):
        return orders.fall_short(asked, outcome, now_ms)
    if asked.kind == "reserve":
        await ledger.reserve(asked.order_id, quantities, now_ms + int(1000 * asked.ttl_s))
    return orders.settle(asked, quantities, outcome, now_ms)


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
    id_ = orders.event_id(verdict.order_id, content, 0)
    answer = encode(
        INVENTORY_VERDICTS, verdict.order_id, verdict, origin, id_, verdict.decided_at_ms
    )
    return [answer, *said_of(settlement.updates, verdict.order_id, content, origin)]


def said_of(
    updates: Sequence[InventoryUpdated], order_id: str, content: str, origin: Origin
) -> list[Outgoing]:
    """Return a message for each changed item, under ids that derive from its order."""
    return [
        encode(
            INVENTORY_UPDATED,
            update.item,
            update,
            origin,
            orders.event_id(order_id, content, position),
            update.decided_at_ms,
        )
        for position, update in enumerate(updates, start=1)
    ]
