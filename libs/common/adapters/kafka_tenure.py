"""Holding one partition by a transactional id: its newest records, and writes that fence others.

Each partition has one transactional id. Who starts a producer with it makes the broker refuse what
earlier holders still send, their commits too, and ends what they left open; so what the log holds
then is all that they will ever have written.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
)

from libs.common.adapters.kafka_publisher import count, send
from libs.common.errors import Deposed
from libs.common.ports import Outgoing, Record

# Nobody but the next holder waits for what a dead one left open, and that one ends it at once. So
# it may be long, and outlast a broker that is away.
TRANSACTION_TIMEOUT_MS = 60_000
STOP_S = 2.0
MARGIN = 8  # offsets that are no records: a transaction's marker takes one


class KafkaTenure:
    """One instance's hold of a partition, from `begin` to `close`."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        make_consumer: Callable[..., AIOKafkaConsumer],
        place: TopicPartition,
        read: TopicPartition,
        prefix: str,
        group: str,
    ) -> None:
        self._producer = producer
        self._make_consumer = make_consumer
        self._consumer = make_consumer()
        self._place = place
        self._read = read
        self._prefix = prefix
        self._group = group
        self.read_begin = 0
        self.read_end = 0

    async def begin(self) -> None:
        """Depose all earlier holders; raises ConnectionError where the broker is away."""
        with self._broker():
            await self._producer.start()
            await self._consumer.start()
            self._consumer.assign([self._place])
            self.read_begin = (await self._consumer.beginning_offsets([self._read]))[self._read]
            self.read_end = (await self._consumer.end_offsets([self._read]))[self._read]

    async def last(self, count: int) -> list[Record]:
        """Return the newest `count` committed records of the partition, or all there are."""
        with self._broker():
            first = (await self._consumer.beginning_offsets([self._place]))[self._place]
            end = (await self._consumer.end_offsets([self._place]))[self._place]
            back = 2 * count + MARGIN
            while True:
                begin = max(first, end - back)
                records = await self._between(self._consumer, self._place, begin, end)
                if len(records) >= count or begin == first:
                    return records[-count:]
                back *= 8  # aborted transactions, or gaps that compaction has left

    async def read(self, first: int, end: int) -> list[Record]:
        """Return the records with these offsets of the log that is read, as far as it has them.

        Uncommitted ones too, as its usual reader sees them.
        """
        consumer = self._make_consumer(isolation_level="read_uncommitted")
        try:
            with self._broker():
                await consumer.start()
                consumer.assign([self._read])
                begin = (await consumer.beginning_offsets([self._read]))[self._read]
                return await self._between(consumer, self._read, max(first, begin), end)
        finally:
            await _stop(consumer)

    async def publish(self, messages: Sequence[Outgoing], next_offset: int) -> None:
        """Publish all and commit the first offset that a successor must read, or none of it.

        A broker that is away is waited for, as far as the client does.
        """
        with self._broker():
            async with self._producer.transaction():
                for message in messages:
                    sent = await send(self._producer, self._prefix, message)
                    sent.add_done_callback(_look_at)
                await self._producer.send_offsets_to_transaction(
                    {self._read: next_offset}, self._group
                )
        count(messages)

    async def close(self) -> None:
        """Let the clients go; a broker that is away is not waited for long."""
        await _stop(self._producer)
        await _stop(self._consumer)

    @contextlib.contextmanager
    def _broker(self) -> Iterator[None]:
        try:
            yield
        except (ProducerFenced, InvalidProducerEpoch, IllegalOperation) as error:
            raise Deposed(f"{self._place}: {str(error) or type(error).__name__}") from error
        except KafkaError as error:
            raise ConnectionError(f"{self._place}: {str(error) or type(error).__name__}") from error

    async def _between(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, begin: int, end: int
    ) -> list[Record]:
        consumer.seek(place, begin)
        found: list[Record] = []
        # By position, not by record: a log may end in a transaction's marker.
        while begin < end and await consumer.position(place) < end:
            batches = await consumer.getmany(place, timeout_ms=200)
            found += [self._record(message) for message in batches.get(place, [])]
        return [record for record in found if record.offset < end]

    def _record(self, message: Any) -> Record:
        return Record(
            message.topic.removeprefix(self._prefix),
            message.partition,
            message.offset,
            message.key,
            message.value,
            {name: value or b"" for name, value in message.headers},
            message.timestamp,
        )


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    with contextlib.suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(STOP_S):
            await client.stop()


def _look_at(sent: asyncio.Future[object]) -> None:
    """Look at a failure that the commit tells of; asyncio complains of those nobody looked at."""
    if not sent.cancelled():
        sent.exception()
