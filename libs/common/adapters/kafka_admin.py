"""Topics as the table says: waiting for a broker, making what is missing, refusing the rest."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code

from libs.common.errors import SettingError
from libs.common.settings import KafkaSection
from libs.common.topics import TOPICS, Topic

log = structlog.get_logger()

RETRY_S = 0.2
SAY_EVERY_S = 5.0
TOPIC_EXISTS = 36


async def apply_topics(settings: KafkaSection) -> list[str]:
    """Create every topic of the table that is missing; return a line for each: made, or there.

    Raises:
        SettingError: no broker in time, a topic has another partition count, or it was refused.
    """
    async with _admin(settings) as admin:
        found = await _partition_counts(admin)
        wanted = {settings.topic_prefix + topic.name: topic for topic in TOPICS}
        _refuse_other_counts(found, wanted)
        missing = {name: topic for name, topic in wanted.items() if name not in found}
        if missing:
            # As the broker's owner wants: one copy on a single node, three elsewhere.
            replication = await _broker_setting(admin, "default.replication.factor", otherwise=1)
            response = await admin.create_topics(
                [
                    NewTopic(name, topic.partitions, replication, topic_configs=topic.config())
                    for name, topic in missing.items()
                ]
            )
            for name, code, *said in response.topic_errors:
                if code not in (0, TOPIC_EXISTS):
                    raise SettingError(f"topic {name}: {said or for_code(code).__name__}")
        deadline = time.monotonic() + settings.start_timeout_s
        while wanted.keys() - (found := await _partition_counts(admin)).keys():
            if time.monotonic() > deadline:
                raise SettingError(f"topics without a leader: {', '.join(missing)}")
            await asyncio.sleep(RETRY_S)
        _refuse_other_counts(found, wanted)  # another may have made one while we looked
        return [f"{'created' if name in missing else 'present'} {name}" for name in wanted]


async def wait_until_ready(settings: KafkaSection) -> int:
    """Wait for the broker and for every topic; return the broker's shortest session, in ms.

    Raises:
        SettingError: they did not come within `start_timeout_s`, or a partition count is another.
    """
    deadline = time.monotonic() + settings.start_timeout_s
    said = time.monotonic()
    async with _admin(settings) as admin:
        while True:
            found = await _partition_counts(admin)
            wanted = {settings.topic_prefix + topic.name: topic for topic in TOPICS}
            _refuse_other_counts(found, wanted)
            missing = sorted(wanted.keys() - found.keys())
            if not missing:
                return await _broker_setting(admin, "group.min.session.timeout.ms", otherwise=0)
            if time.monotonic() > deadline:
                raise SettingError(
                    f"{len(missing)} topics are missing, {missing[0]} first;"
                    " `plimsoll topics apply` makes them"
                )
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log.info("waiting for topics", missing=len(missing), first=missing[0])
            await asyncio.sleep(RETRY_S)


def session_ms(asked_ms: int, minimum_ms: int) -> int:
    """Return the session to use on a broker whose shortest one is `minimum_ms`; warn if longer."""
    if minimum_ms > asked_ms:
        log.warning(
            "this broker's shortest session is longer than the one asked for: taking over from"
            " a dead instance takes as long (group.min.session.timeout.ms decides)",
            asked_ms=asked_ms,
            used_ms=minimum_ms,
        )
    return max(asked_ms, minimum_ms)


@asynccontextmanager
async def _admin(settings: KafkaSection) -> AsyncIterator[AIOKafkaAdminClient]:
    deadline = time.monotonic() + settings.start_timeout_s
    said = time.monotonic()
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        try:
            await admin.start()
            break
        except KafkaConnectionError as error:
            await admin.close()
            if time.monotonic() > deadline:
                raise SettingError(
                    f"PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS={settings.bootstrap_servers}: no broker"
                    f" answered within {settings.start_timeout_s:g} s; is it running there?"
                ) from error
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                log.info("waiting for the broker", servers=settings.bootstrap_servers)
            await asyncio.sleep(RETRY_S)
    try:
        yield admin
    finally:
        await admin.close()


async def _partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Return the topics that exist and whose partitions all have a leader, with their counts."""
    names = await admin.list_topics()
    described = await admin.describe_topics(list(names)) if names else []
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if topic["partitions"] and all(part["leader"] >= 0 for part in topic["partitions"])
    }


def _refuse_other_counts(found: dict[str, int], wanted: dict[str, Topic]) -> None:
    for name, topic in wanted.items():
        if found.get(name, topic.partitions) != topic.partitions:
            raise SettingError(
                f"topic {name} has {found[name]} partitions, {topic.partitions} wanted: use another"
                " PLIMSOLL_KAFKA__TOPIC_PREFIX, or delete it if its content may go"
            )


async def _broker_setting(admin: AIOKafkaAdminClient, name: str, otherwise: int) -> int:
    """Return one number of the broker's configuration, `otherwise` where it does not tell."""
    try:
        cluster = await admin.describe_cluster()
        node = str(cluster["brokers"][0]["node_id"])
        resource = ConfigResource(ConfigResourceType.BROKER, node)
        (response,) = await admin.describe_configs([resource])
    except KafkaError as error:
        log.warning("the broker does not tell a setting", setting=name, error=str(error))
        return otherwise
    for _, _, _, _, entries in response.resources:
        for entry, value, *_ in entries:
            if entry == name:
                return int(value)
    return otherwise
