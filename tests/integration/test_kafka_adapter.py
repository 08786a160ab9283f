"""What only a real broker can show: readers that are stuck, deposed leaders, wrong topics."""

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.errors import SettingError
from libs.common.ports import Outgoing, Start
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import (
    COMMANDS_ACKS,
    DEAD_LETTERS,
    INFERENCE_REQUESTS,
    METRICS_SAMPLES,
    TOPICS,
)
from libs.common.wire import Origin
from tests.conftest import Connect

pytestmark = pytest.mark.bus


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own timeout bounds it."""
    while not condition():
        await asyncio.sleep(0.05)


def trouble(health: Health) -> str:
    health.check()
    return "; ".join(health.missing().values())


async def test_a_reader_that_reads_nothing_while_messages_wait_says_so(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    health = Health(stuck_after_s=20)
    async with (
        connect("other") as other,
        KafkaBus.connect(kafka_section, Origin("test", "a"), health) as bus,
        bus.tail([COMMANDS_ACKS], Start.EARLIEST) as reader,
    ):
        await other.publish([Outgoing(COMMANDS_ACKS.name, "k", b"v")] * 3)
        await until(lambda: "3 messages wait on" in trouble(health))
        assert len(await reader.poll(5)) == 3
        await until(lambda: trouble(health) == "")


async def test_a_member_without_a_partition_says_so(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    health = Health(stuck_after_s=20)
    async with (
        connect("first") as first,
        KafkaBus.connect(kafka_section, Origin("test", "second"), health) as second,
        first.subscribe([INFERENCE_REQUESTS], "executor") as reader,
    ):
        await until(lambda: bool(reader._consumer.assignment()))  # type: ignore[attr-defined]
        async with second.subscribe([INFERENCE_REQUESTS], "executor") as late:
            both = (reader, late)
            # One of two members of a one-partition topic has nothing to do: whichever it is.
            await until(
                lambda: any(not r._consumer.assignment() for r in both)  # type: ignore[attr-defined]
            )
            if not late._consumer.assignment():  # type: ignore[attr-defined]
                await until(lambda: "no partition assigned" in trouble(health))


async def test_the_largest_message_of_a_broker_fits_into_dead_letters(connect: Connect) -> None:
    async with connect("a") as bus, bus.tail([DEAD_LETTERS], Start.EARLIEST) as reader:
        huge = b"x" * (1024 * 1024)
        await bus.publish([Outgoing(DEAD_LETTERS.name, "t", huge, {"dead-reason": b"y" * 1000})])
        (record,) = await reader.poll(5)
        assert record.value == huge


async def test_topics_are_made_as_the_table_says_and_making_them_again_changes_nothing(
    kafka_section: KafkaSection,
) -> None:
    first = await kafka_admin.apply_topics(kafka_section)
    assert len(first) == len(TOPICS)
    assert all(line.startswith("created ") for line in first)
    again = await kafka_admin.apply_topics(kafka_section)
    assert all(line.startswith("present ") for line in again)


async def test_a_topic_with_other_partitions_stops_the_start(kafka_section: KafkaSection) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_section.bootstrap_servers)
    await admin.start()
    name = kafka_section.topic_prefix + METRICS_SAMPLES.name
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    with pytest.raises(SettingError, match=r"metrics\.samples has 1 partitions, 4 wanted"):
        await kafka_admin.apply_topics(kafka_section)


async def test_a_missing_broker_is_waited_for_and_then_named() -> None:
    nowhere = KafkaSection(bootstrap_servers="127.0.0.1:9", start_timeout_s=0.5)
    with pytest.raises(SettingError, match=r"127\.0\.0\.1:9: no broker answered within 0\.5 s"):
        await kafka_admin.wait_until_ready(nowhere)


async def test_missing_topics_are_waited_for_and_then_named(kafka_section: KafkaSection) -> None:
    hasty = kafka_section.model_copy(update={"start_timeout_s": 0.5})
    with pytest.raises(SettingError, match="plimsoll topics apply"):
        await kafka_admin.wait_until_ready(hasty)
