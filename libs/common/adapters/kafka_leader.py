"""Leading by Kafka alone: a one-partition group says who is alive, a transaction fences the others.

Whoever owns the partition leads. It starts the one transactional producer of the role, by which the
broker refuses everything that an earlier owner may still send, and leaves its claim on the topic.
The claim's offset is the epoch. Every doubt ends the term: after an error inside a transaction its
outcome is not known, and the next term's producer settles it.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from libs.common.adapters.kafka_publisher import RETRY_S, count, make_producer, send
from libs.common.errors import Deposed
from libs.common.messages import LeaderClaim
from libs.common.ports import Outgoing
from libs.common.topics import Topic

log = structlog.get_logger()

# An open transaction holds back all who read its partitions: the broker ends a forgotten one soon.
TRANSACTION_TIMEOUT_MS = 5000
PUBLISH_TIMEOUT_S = 4.0  # below it, so that a slow commit is given up before the broker does


class KafkaCandidacy(ConsumerRebalanceListener):  # type: ignore[misc]
    """A standing offer to lead, for as long as it is started."""

    def __init__(
        self,
        prefix: str,
        topic: Topic,
        instance: str,
        client: dict[str, object],
        session: dict[str, object],
    ) -> None:
        self._name = prefix + topic.name
        self._role = f"{prefix}plimsoll-{topic.name}"
        self._instance = instance
        self._client = client
        self._owned = asyncio.Event()
        self._term: KafkaTerm | None = None
        self._consumer = AIOKafkaConsumer(
            group_id=self._role,
            **client,
            **session,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            # Sticky: a standby that joins does not take the office from a healthy leader.
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )

    async def start(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._name], listener=self)
        await self._consumer.start()
        self._draining = asyncio.create_task(self._drain())

    async def stop(self) -> None:
        """Leave the group, so that a successor need not wait for the session to run out."""
        self._draining.cancel()
        await self._end_term()
        await self._consumer.stop()

    async def elected(self) -> "KafkaTerm":
        """Wait until this instance leads. Its predecessors are fenced when this returns."""
        while True:
            await self._end_term()
            await self._owned.wait()
            producer = make_producer(
                self._client,
                transactional_id=self._role,
                transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            )
            self._term = term = KafkaTerm(producer, self._owned, self._name)
            try:
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await term.begin(self._instance)
            except (Deposed, KafkaError, TimeoutError) as error:
                log.info("could not take office", error=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            return term

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Hear that the office is ours."""
        if assigned:
            self._owned.set()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Hear that the office may go to another; a term that runs ends at its next publish."""
        self._owned.clear()

    async def _drain(self) -> None:
        # A member that leaves claims unread counts as stuck and is put out of the group.
        while True:
            try:
                await self._consumer.getmany(timeout_ms=1000)
            except KafkaError as error:
                log.warning("standing for leader", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _end_term(self) -> None:
        if self._term is not None:
            term, self._term = self._term, None
            await term.close()


class KafkaTerm:
    """One instance's time as leader. Whatever goes wrong ends it."""

    def __init__(self, producer: AIOKafkaProducer, owned: asyncio.Event, claims: str) -> None:
        self._producer = producer
        self._owned = owned
        self._claims = claims
        self._prefix = claims.removesuffix("scheduler.leader")
        self._over = False
        self._epoch = -1

    @property
    def epoch(self) -> int:
        """The offset of this leader's claim: larger than that of every earlier one."""
        return self._epoch

    async def begin(self, instance: str) -> None:
        """Fence all predecessors and leave the claim."""
        await self._producer.start()
        claim = LeaderClaim(instance=instance, at_ms=time.time_ns() // 1_000_000)
        async with self._producer.transaction():
            sent = await self._producer.send(
                self._claims, claim.model_dump_json().encode(), b"leader"
            )
            sent.add_done_callback(_look_at)
        self._epoch = (await sent).offset

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish all of them or none, as one transaction; raises Deposed when it may not."""
        if self._over or not self._owned.is_set():
            raise Deposed(f"epoch {self._epoch} is over")
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                await self._transact(messages)
        except (KafkaError, TimeoutError) as error:
            self._over = True
            reason = str(error) or type(error).__name__
            log.warning("this term is over", epoch=self._epoch, reason=reason)
            raise Deposed(f"epoch {self._epoch} is over: {reason}") from error
        count(messages)

    async def close(self) -> None:
        """Let the producer go; a broker that is away is not waited for long."""
        self._over = True
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(2.0):
                await self._producer.stop()

    async def _transact(self, messages: Sequence[Outgoing]) -> None:
        async with self._producer.transaction():
            for message in messages:
                sent = await send(self._producer, self._prefix, message)
                sent.add_done_callback(_look_at)


def _look_at(sent: asyncio.Future[object]) -> None:
    """Look at a failure that the commit tells of; asyncio complains of those nobody looked at."""
    if not sent.cancelled():
        sent.exception()
