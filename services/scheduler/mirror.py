"""Keeps the newest routing table and forecasts in a cache, for readers that want them in no time.

Every instance does, leader and standby alike, and from the committed topics alone: what a cache
shows has been decided, whoever decided it, and the death of one writer changes nothing. Nothing of
the scheduler waits for a cache, and no trouble of it reaches the scheduler.
"""

from collections.abc import Iterable

import structlog

from libs.common.ports import Bus, Cache, Clock, KeyOf, Reader, Record, Start
from libs.common.topics import LOAD_FORECASTS, ROUTING_TABLE
from services.scheduler import telemetry

log = structlog.get_logger()

TOPICS = (ROUTING_TABLE, LOAD_FORECASTS)
# The longest that a record waits while the other topic is silent.
POLL_S = 0.05
# Between two tries of a cache that is away.
PAUSE_MS = 1000


class Mirror:
    """One writer of the cache."""

    def __init__(self, bus: Bus, cache: Cache, clock: Clock) -> None:
        self._bus = bus
        self._cache = cache
        self._clock = clock
        self._up: bool | None = None  # None: not tried yet
        for topic in TOPICS:
            assert topic.partitions == 1, (
                "of one partition alone, a larger offset is a later record"
            )
            telemetry.REDIS_WRITTEN.labels(topic.name).inc(0)

    async def keep(self) -> None:
        """Keep the cache filled until cancelled; fill it anew whenever it was away or emptied."""
        while True:
            try:
                await self._fill_and_follow()
                log.warning("the cache was emptied, or the log began anew: filling it again")
            # Of whatever kind: the scheduler must not end because a copy cannot be kept.
            except Exception as error:
                self._note(error)
            await self._clock.sleep_until_ms(self._clock.now_ms() + PAUSE_MS)

    async def _fill_and_follow(self) -> None:
        """Bring the cache to what the log says, and keep it there.

        Returns once the cache has been emptied, or the log is another one. What fails is raised.
        """
        # Marked before reading begins: so an emptying at any time from here on is seen.
        held = await self._cache.begin(TOPICS)
        self._note(None)
        telemetry.REDIS_REBUILDS.inc()
        async with (
            self._bus.tail([ROUTING_TABLE], Start.EARLIEST) as tables,
            self._bus.tail([LOAD_FORECASTS], Start.RECENT) as forecasts,  # older ones are stale
        ):
            found: dict[KeyOf, Record] = {}
            while not (tables.caught_up() and forecasts.caught_up()):
                found.update(_by_key(await _poll(tables, forecasts)))
            # What is held and not found up to there is stale, or came from a log that is gone: its
            # offsets could be larger than those of the new one, which would lose against them.
            lost = {k: at for k, at in held.items() if k not in found or found[k].offset < at}
            intact = await self._put(found.values(), lost)
            ends: dict[str, int] = {}
            while intact:
                records = await _poll(tables, forecasts)
                for record in records:
                    if record.offset <= ends.get(record.topic, -1):
                        return
                    ends[record.topic] = record.offset
                intact = await self._put(_by_key(records).values(), {})

    async def _put(self, records: Iterable[Record], lost: dict[KeyOf, int]) -> bool:
        given = list(records)
        intact = await self._cache.put(given, lost)
        for record in given:
            telemetry.REDIS_WRITTEN.labels(record.topic).inc()
        return intact

    def _note(self, error: Exception | None) -> None:
        """Say once that the cache has gone, and once that it is back."""
        up = error is None
        if up and self._up is False:
            log.info("the cache answers again: filling it from the log")
        elif isinstance(error, ConnectionError) and self._up is not False:
            log.warning("the cache is away", reason=str(error))
        elif error is not None and self._up is not False:
            log.error("the cache cannot be kept", exc_info=error)
        self._up = up
        telemetry.REDIS_UP.set(up)


async def _poll(tables: Reader, forecasts: Reader) -> list[Record]:
    return await tables.poll(POLL_S) + await forecasts.poll(POLL_S)


def _by_key(records: Iterable[Record]) -> dict[KeyOf, Record]:
    """Return the last record of each key."""
    return {(record.topic, record.key or b""): record for record in records}
