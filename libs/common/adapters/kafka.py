"""The bus on Kafka, by aiokafka: publishing, reading and leading, each with the settings that hold.

Where a setting looks odd, it was measured: `docs/decisions/0003-kafka-settings.md`. Nothing here
knows what a message means.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.partitioner import murmur2

from libs.common.adapters import kafka_admin, kafka_patience  # noqa: F401 - the latter at work
from libs.common.adapters.kafka_leader import KafkaCandidacy
from libs.common.adapters.kafka_publisher import MAX_REQUEST_BYTES, Publisher, make_producer
from libs.common.adapters.kafka_tenure import TRANSACTION_TIMEOUT_MS, KafkaTenure
from libs.common.ports import RECENT_OFFSETS, Outgoing, Record, Start
from libs.common.settings import KafkaSection
from libs.common.telemetry import BUS_LAG, BUS_READ, Health
from libs.common.topics import Topic
from libs.common.wire import Origin

log = structlog.get_logger()

WATCH_EVERY_S = 2.0


class KafkaBus:
    """The log that all services share. Made by `connect`."""

    def __init__(self, settings: KafkaSection, origin: Origin, health: Health) -> None:
        self._settings = settings
        self._origin = origin
        self._health = health
        self._session_timeout_ms = settings.session_timeout_ms
        self._publisher = Publisher(lambda: make_producer(self._client()), settings.topic_prefix)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, settings: KafkaSection, origin: Origin, health: Health
    ) -> AsyncIterator["KafkaBus"]:
        """Wait for the broker and for the topics of the table, then yield a bus.

        Raises:
            SettingError: neither came within `start_timeout_s`, or a topic has other partitions.
        """
        minimum_ms = await kafka_admin.wait_until_ready(settings)
        bus = cls(settings, origin, health)
        bus._session_timeout_ms = kafka_admin.session_ms(settings.session_timeout_ms, minimum_ms)
        await bus._publisher.start()
        try:
            yield bus
        finally:
            await bus._publisher.stop()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return once every message is acknowledged; a broker that is away is waited for."""
        await self._publisher.publish(messages)

    @asynccontextmanager
    async def tail(self, topics: Sequence[Topic], start: Start) -> AsyncIterator["KafkaReader"]:
        """Read every partition of `topics`, alone, from `start` on."""
        consumer = AIOKafkaConsumer(**self._client(), **_READING)
        await consumer.start()
        reader = KafkaReader(consumer, self._settings.topic_prefix)
        try:
            places = [
                TopicPartition(self._settings.topic_prefix + topic.name, p)
                for topic in topics
                for p in range(topic.partitions)
            ]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            begins = ends if start is Start.LATEST else await consumer.beginning_offsets(places)
            if start is Start.RECENT:
                begins = {p: max(first, ends[p] - RECENT_OFFSETS) for p, first in begins.items()}
            for place in places:
                consumer.seek(place, begins[place])
            reader.behind = {place: end for place, end in ends.items() if begins[place] < end}
            async with self._watched(reader, [topic.name for topic in topics]):
                yield reader
        finally:
            await _bounded(consumer.stop())

    @asynccontextmanager
    async def subscribe(
        self, topics: Sequence[Topic], group: str
    ) -> AsyncIterator["KafkaGroupReader"]:
        """Read as a member of `group`, from the committed offsets on (earliest where none are)."""
        consumer = AIOKafkaConsumer(
            *[self._settings.topic_prefix + topic.name for topic in topics],
            group_id=f"{self._settings.topic_prefix}plimsoll-{group}",
            **self._client(),
            **_READING,
            **self._session(),
        )
        await consumer.start()
        reader = KafkaGroupReader(consumer, self._settings.topic_prefix)
        try:
            async with self._watched(reader, [topic.name for topic in topics]):
                yield reader
        finally:
            await _bounded(consumer.stop())

    @asynccontextmanager
    async def stand(self, topic: Topic, instance: str) -> AsyncIterator[KafkaCandidacy]:
        """Stand for leader by `topic`, of one partition, where each leader leaves its claim."""
        assert topic.partitions == 1, topic.name
        client = {**self._client(), "client_id": f"{self._origin.uri[1:].replace('/', '-')}-lead"}
        prefix = self._settings.topic_prefix
        candidacy = KafkaCandidacy(prefix, topic, instance, client, self._session())
        await candidacy.start()
        try:
            yield candidacy
        finally:
            await _bounded(candidacy.stop())

    @asynccontextmanager
    async def hold(
        self, topic: Topic, partition: int, read: Topic, group: str
    ) -> AsyncIterator[KafkaTenure]:
        """Be the only writer of a partition, for what `group` reads in the same one of `read`."""
        prefix = self._settings.topic_prefix
        client = {**self._client(), "client_id": f"{self._client()['client_id']}-hold-{partition}"}
        tenure = KafkaTenure(
            make_producer(
                client,
                transactional_id=f"{prefix}plimsoll-{topic.name}-{partition}",
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            ),
            lambda **more: AIOKafkaConsumer(**{**client, **_READING, **more}),
            TopicPartition(prefix + topic.name, partition),
            TopicPartition(prefix + read.name, partition),
            prefix,
            f"{prefix}plimsoll-{group}",
        )
        try:
            await tenure.begin()
            yield tenure
        finally:
            await tenure.close()

    def partition_of(self, topic: Topic, key: str) -> int:
        """Return the partition that a message with this key goes to, as in every Kafka client."""
        return int((murmur2(key.encode()) & 0x7FFFFFFF) % topic.partitions)

    def _client(self) -> dict[str, object]:
        return {
            "bootstrap_servers": self._settings.bootstrap_servers,
            "client_id": self._origin.uri[1:].replace("/", "-"),
            "request_timeout_ms": max(self._settings.request_timeout_ms, self._session_timeout_ms),
            "retry_backoff_ms": 50,
        }

    def _session(self) -> dict[str, object]:
        return {
            "session_timeout_ms": self._session_timeout_ms,
            "heartbeat_interval_ms": max(100, self._session_timeout_ms * 3 // 10),
            "rebalance_timeout_ms": max(1000, self._session_timeout_ms),
        }

    @asynccontextmanager
    async def _watched(self, reader: "KafkaReader", topics: list[str]) -> AsyncIterator[None]:
        name = f"reader of {', '.join(topics)}"
        watching = asyncio.create_task(reader.watch())
        self._health.ready_when(name, reader.probe)
        try:
            yield
        finally:
            self._health.forget(name)
            watching.cancel()
            for topic in topics:
                with contextlib.suppress(KeyError):
                    BUS_LAG.remove(topic)  # what nobody reads has no lag


class KafkaReader:
    """Committed records of its partitions, in order; says by `probe` when it is stuck."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str) -> None:
        self._consumer = consumer
        self._prefix = prefix
        self.behind: dict[TopicPartition, int] = {}  # where the log ended when reading began
        self._positions: dict[TopicPartition, int] = {}
        self._moved = time.monotonic()
        self._trouble: str | None = None
        self._held = False

    async def poll(self, max_wait_s: float) -> list[Record]:
        """Return what has come, waiting up to `max_wait_s` for a first record; may be empty."""
        batches = await self._consumer.getmany(timeout_ms=max(0, int(max_wait_s * 1000)))
        for place, end in list(self.behind.items()):
            # By position, not by record: a log may end in a transaction's marker.
            if await self._consumer.position(place) >= end:
                self.behind.pop(place, None)
        for place, messages in batches.items():
            BUS_READ.labels(place.topic.removeprefix(self._prefix)).inc(len(messages))
        return [
            Record(
                place.topic.removeprefix(self._prefix),
                place.partition,
                message.offset,
                message.key,
                message.value,
                {name: value or b"" for name, value in message.headers},  # Kafka allows null
                message.timestamp,
            )
            for place, messages in batches.items()
            for message in messages
        ]

    def caught_up(self) -> bool:
        """Return whether all that stood on the topics when reading began has been returned."""
        return not self.behind

    def probe(self) -> str | None:
        """Return why this reader does no work though the broker answers, or None."""
        return self._trouble

    async def watch(self) -> None:
        """Compare, for ever, where the log ends with how far this reader is.

        The client's own notion of the end is fed by the very fetches that may have stopped, so the
        broker is asked. While it does not answer, nobody is stuck: it is the broker that is away.
        """
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    self._trouble = await self._find_trouble()
            except (KafkaError, TimeoutError):
                self._trouble = None

    async def _find_trouble(self) -> str | None:
        places = self._consumer.assignment()
        if not places:
            await self._consumer._client.fetch_all_metadata()  # raises while the broker is away
            return "no partition assigned"
        ends = await self._consumer.end_offsets(places)
        positions = {place: await self._consumer.position(place) for place in places}
        now = time.monotonic()
        waiting = {p: ends[p] - at for p, at in positions.items() if ends[p] > at}
        lag = Counter({place.topic.removeprefix(self._prefix): 0 for place in places})
        for place, count in waiting.items():
            lag[place.topic.removeprefix(self._prefix)] += count
        for topic, count in lag.items():
            BUS_LAG.labels(topic).set(count)
        moved = any(self._positions.get(p) != at for p, at in positions.items())
        if self._held or moved or not waiting:
            self._positions, self._moved = positions, now
            return None
        place, count = max(waiting.items(), key=lambda item: item[1])
        return (
            f"{count} messages wait on {place.topic}/{place.partition},"
            f" none read for {now - self._moved:.0f} s"
        )


class KafkaGroupReader(KafkaReader):
    """A reader that shares its topics' partitions with the other members of its group."""

    def hold(self, held: bool) -> None:
        """Say that messages are left unread on purpose, so that it is not taken for stuck."""
        self._held = held

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Remember the first offset of each (topic, partition) that must be read again."""
        mine = self._consumer.assignment()
        wanted = {
            TopicPartition(self._prefix + topic, partition): offset
            for (topic, partition), offset in next_offsets.items()
        }
        offsets = {place: offset for place, offset in wanted.items() if place in mine}
        if offsets:
            # The partition went to another member: it will read these again, which is allowed.
            with contextlib.suppress(CommitFailedError, IllegalStateError):
                await self._consumer.commit(offsets)


async def _bounded(stopping: Awaitable[object]) -> None:
    """Wait for a client to stop, but not for ever: its broker may be gone."""
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(5.0):
            await stopping


_READING = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "isolation_level": "read_committed",  # the default would show a deposed leader's commands
    "fetch_max_wait_ms": 100,
    "max_partition_fetch_bytes": MAX_REQUEST_BYTES,
}
