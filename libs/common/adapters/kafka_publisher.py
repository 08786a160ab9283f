"""Publishing to Kafka so that a broker may go and come back: nothing lost, order kept, no noise."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from libs.common.ports import Outgoing
from libs.common.telemetry import BUS_PUBLISHED

log = structlog.get_logger()

# Above the largest message a broker takes by default (1 MiB), for dead letters with their headers.
MAX_REQUEST_BYTES = 2 * 1024 * 1024
RETRY_S = 0.2
STOP_S = 5.0


def make_producer(client: Mapping[str, Any], **more: Any) -> AIOKafkaProducer:
    """Return a producer, not yet started; with a `transactional_id` it writes transactions."""
    return AIOKafkaProducer(
        **client,
        **more,
        enable_idempotence=True,  # acks=all, and no repeat within one producer's life
        max_request_size=MAX_REQUEST_BYTES,
        linger_ms=0,
    )


class Publisher:
    """Publishes through one producer at a time, and through a new one when that has lost count."""

    def __init__(self, make: Callable[[], AIOKafkaProducer], topic_prefix: str) -> None:
        self._make = make
        self._prefix = topic_prefix
        self._producer = make()
        self._renewing = asyncio.Lock()

    async def start(self) -> None:
        """Connect; raises KafkaError where no broker answers."""
        await self._producer.start()

    async def stop(self) -> None:
        """Send what is left, but do not wait long: the broker may be gone."""
        await _stop(self._producer)

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return once every message is acknowledged.

        After trouble that may pass, all is sent again from the first failure on, so that the order
        within a key stays; what had arrived comes twice, under the id that it had.
        """
        rest = list(messages)
        while rest:
            producer = self._producer
            errors = await self._send(producer, rest)
            failed = next((n for n, error in enumerate(errors) if error), len(errors))
            count(rest[:failed])
            rest = rest[failed:]
            if any(isinstance(error, OutOfOrderSequenceNumber) for error in errors):
                await self._renew(producer)
            if rest:
                log.warning("the broker is away, waiting", messages=len(rest))
                await asyncio.sleep(RETRY_S)

    async def _send(
        self, producer: AIOKafkaProducer, messages: Sequence[Outgoing]
    ) -> list[BaseException | None]:
        """Return how each message fared, up to the last one that the client took.

        Raises:
            KafkaError: trouble that will not pass, such as a message above the broker's limit.
        """
        sent: list[asyncio.Future[Any]] = []
        refused: list[KafkaError] = []
        try:
            for message in messages:
                sent.append(await send(producer, self._prefix, message))
        except (KafkaTimeoutError, OutOfOrderSequenceNumber, ProducerClosed) as refusal:
            refused.append(refusal)  # the client's buffer is full, or this producer is finished
        outcomes = [*await asyncio.gather(*sent, return_exceptions=True), *refused]
        errors = [out if isinstance(out, BaseException) else None for out in outcomes]
        for error in errors:
            # A batch for which no leader was known for too long may pass; other errors will not.
            if error is not None and not _may_pass(error):
                raise error
        return errors

    async def _renew(self, producer: AIOKafkaProducer) -> None:
        """Replace a producer that has lost count, unless another call has done so.

        A batch that expired while the broker was away leaves a gap in the producer's sequence, and
        the broker refuses all that comes after it, for ever (aiokafka issue 1017).
        """
        async with self._renewing:
            if self._producer is producer:
                log.warning("the producer lost count over the outage, a new one goes on")
                renewed = self._make()
                await renewed.start()
                self._producer = renewed
                await _stop(producer)


async def send(producer: AIOKafkaProducer, prefix: str, message: Outgoing) -> asyncio.Future[Any]:
    """Hand one message to a producer; the future ends with its acknowledgement."""
    future: asyncio.Future[Any] = await producer.send(
        prefix + message.topic,
        message.value,
        message.key.encode(),
        message.partition,
        headers=list(message.headers.items()),
    )
    return future


def count(messages: Sequence[Outgoing]) -> None:
    """Count messages that the broker has acknowledged or committed."""
    for message in messages:
        BUS_PUBLISHED.labels(message.topic).inc()


def _may_pass(error: BaseException) -> bool:
    lost = isinstance(error, KafkaTimeoutError | OutOfOrderSequenceNumber | ProducerClosed)
    return lost or (isinstance(error, KafkaError) and error.retriable)


async def _stop(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(STOP_S):
            await producer.stop()
