"""The Faust part of the predictor: the partitions of `metrics.samples` among workers.

Faust shares the partitions out, and hands over each record from the group's offsets on. It commits
none: that is done with the snapshots (`parts.py`), and after each rebalance Faust begins again at
what was committed. It decides nothing here, keeps no tables, publishes nothing, and runs inside the
service's own event loop: `faust.Worker` would bring its own logging, signals and web page.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import faust

from libs.common.ports import Record
from libs.common.settings import KafkaSection
from libs.common.telemetry import BUS_LAG, BUS_READ
from libs.common.topics import METRICS_SAMPLES
from services.predictor.handover import quicken

Take = Callable[[Record], Awaitable[None]]
Keep = Callable[[set[int]], None]
Release = Callable[[], Awaitable[None]]

WATCH_EVERY_S = 2.0
STARTING = "starting"
STOP_WITHIN_S = 10.0


class Stream:
    """Hands each record to `take`, in order within a partition; `keep` hears whose they are now.

    A rebalance takes every partition away and gives most of them back, so only what a worker was
    not given again is lost to it. `release` is awaited before: till then nobody else has them.
    """

    def __init__(
        self,
        settings: KafkaSection,
        session_timeout_ms: int,
        take: Take,
        keep: Keep,
        release: Release,
    ) -> None:
        self._take = take
        self._keep = keep
        self._release = release
        self._place = settings.topic_prefix + METRICS_SAMPLES.name
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._trouble: str | None = STARTING
        self._next: dict[int, int] = {}  # by partition, the first offset not yet taken
        self._moved_s = time.monotonic()
        self._app = _faust_app(settings, session_timeout_ms / 1000)
        self._app.on_partitions_assigned.connect(cast(Any, self._on_assigned), weak=False)
        self._app.on_partitions_revoked.connect(cast(Any, self._on_revoked), weak=False)
        source = self._app.topic(
            self._place,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=METRICS_SAMPLES.partitions,
            allow_empty=True,  # a record without a value is a bad one, and goes to dead.letters
            # Offsets are committed with the snapshots alone. Acknowledged, those that Faust skips
            # in a rebalance would be committed too.
            acks=False,
        )
        # More than one at a time would break the order within a partition.
        self._app.agent(source, name="samples", concurrency=1)(self._agent)
        quicken(self._app)

    async def run(self) -> None:
        """Serve until cancelled; raise what `take` raised, or say that Faust ended by itself."""
        starting = asyncio.create_task(self._app.start())
        starting.add_done_callback(self._on_started)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch())
                tasks.create_task(self._end())
        finally:
            # A record that fails while Faust still starts leaves it waiting for itself, for ever;
            # so both are let go after a while, rather than awaited.
            starting.cancel()
            stopping = asyncio.create_task(self._app.stop())
            await asyncio.wait((starting, stopping), timeout=STOP_WITHIN_S)

    def probe(self) -> str | None:
        """Return why no record is taken though the broker answers, or None."""
        return self._trouble

    async def _agent(self, samples: Any) -> None:
        read = BUS_READ.labels(METRICS_SAMPLES.name)
        async for event in samples.events():
            record = _record(event.message)
            read.inc()
            try:
                await self._take(record)
            except Exception as error:
                # Faust would log it and go on with the next record: a broken invariant, unseen.
                if not self._failed.done():
                    self._failed.set_exception(error)
                raise
            self._next[record.partition] = record.offset + 1

    async def _end(self) -> None:
        stopped = asyncio.create_task(self._app.wait_until_stopped())
        await asyncio.wait((stopped, self._failed), return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        raise RuntimeError(f"Faust ended by itself: {self._app.crash_reason!r}")

    async def _watch(self) -> None:
        """Compare, for ever, where the log ends with how far this worker is.

        The broker is asked, since the client's own notion of the end is fed by the very fetches
        that may have stopped. While it does not answer, it is the broker that is away.
        """
        places = [faust.types.TP(self._place, p) for p in range(METRICS_SAMPLES.partitions)]
        before: dict[int, int] = {}
        while True:
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    ends = await self._app.consumer.highwaters(*places)
            except Exception:
                # Whatever the client raises: it did not answer.
                self._trouble = STARTING if self._trouble is STARTING else None
            else:
                self._trouble = self._find_trouble(ends, before)
                before = dict(self._next)
            await asyncio.sleep(WATCH_EVERY_S)

    def _find_trouble(self, ends: Mapping[Any, int], before: dict[int, int]) -> str | None:
        mine = {place for place in self._app.consumer.assignment() if place in ends}
        if not mine:
            return "no partition assigned"
        # Nothing taken from a partition yet: what came since it was first looked at must be.
        waiting = sum(
            ends[place] - self._next.setdefault(place.partition, ends[place]) for place in mine
        )
        BUS_LAG.labels(METRICS_SAMPLES.name).set(max(0, waiting))
        now_s = time.monotonic()
        if waiting <= 0 or self._next != before:
            self._moved_s = now_s
            return None
        return f"{waiting} records wait, none taken for {now_s - self._moved_s:.0f} s"

    def _on_started(self, starting: asyncio.Task[None]) -> None:
        error = None if starting.cancelled() else starting.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _on_assigned(self, _app: faust.App, assigned: set[Any], **_: Any) -> None:
        mine = {place.partition for place in assigned if place.topic == self._place}
        self._next = {partition: at for partition, at in self._next.items() if partition in mine}
        self._keep(mine)

    async def _on_revoked(self, _app: faust.App, _revoked: set[Any], **_: Any) -> None:
        await self._release()


def _record(message: Any) -> Record:
    return Record(
        METRICS_SAMPLES.name,
        message.partition,
        message.offset,
        message.key,
        message.value,
        {name: value or b"" for name, value in dict(message.headers or ()).items()},
        round(message.timestamp * 1000),
    )


def _faust_app(settings: KafkaSection, session_s: float) -> faust.App:
    servers = [f"kafka://{server.strip()}" for server in settings.bootstrap_servers.split(",")]
    return faust.App(
        f"{settings.topic_prefix}plimsoll-predictor",
        broker=servers,
        # The table of topics is the one place that makes topics; no leader topic, no web page.
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=METRICS_SAMPLES.partitions,
        web_enabled=False,
        store="memory://",
        datadir=Path(tempfile.gettempdir()) / "plimsoll-faust",  # made at the start, never used
        processing_guarantee="at_least_once",  # its exactly_once does not hold
        stream_wait_empty=False,  # or a rebalance waits for records in flight
        # Faust's own 60 s would leave a dead worker's partitions alone for a minute.
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 4,
        broker_request_timeout=max(90.0, session_s),
        broker_rebalance_timeout=max(10.0, session_s),
        consumer_auto_offset_reset="earliest",
    )
