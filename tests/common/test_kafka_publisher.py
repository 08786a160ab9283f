"""Publishing through trouble, with a producer that fails as told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaTimeoutError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from libs.common.adapters import kafka_publisher
from libs.common.adapters.kafka_publisher import Publisher
from libs.common.ports import Outgoing

Script = Iterator[Exception | None]


class Producer:
    """Takes each message, or fails it as the script says; keeps what arrived."""

    def __init__(self, script: Script, arrived: list[bytes]) -> None:
        self._script = script
        self._arrived = arrived
        self.stopped = False

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    async def send(self, topic: str, value: bytes, *_: Any, **__: Any) -> asyncio.Future[None]:
        outcome = next(self._script, None)
        if isinstance(outcome, KafkaTimeoutError | ProducerClosed):
            raise outcome
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if outcome is None:
            self._arrived.append(value)
            future.set_result(None)
        else:
            future.set_exception(outcome)
        return future


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_publisher, "RETRY_S", 0.0)


def a_publisher(*outcomes: Exception | None) -> tuple[Publisher, list[bytes], list[Producer]]:
    script, arrived, made = iter(outcomes), list[bytes](), list[Producer]()

    def make() -> Any:
        made.append(Producer(script, arrived))
        return made[-1]

    return Publisher(make, ""), arrived, made


def messages(count: int) -> list[Outgoing]:
    return [Outgoing("commands.acks", "k", b"%d" % n) for n in range(count)]


@pytest.mark.parametrize("trouble", [LeaderNotAvailableError(), KafkaTimeoutError()])
async def test_after_trouble_all_is_sent_again_from_the_first_failure_on(
    trouble: Exception,
) -> None:
    publisher, arrived, _ = a_publisher(None, trouble, None)
    await publisher.publish(messages(3))
    # Message 2 may come twice, but never does an earlier one come after the last of a later one.
    assert [n for i, n in enumerate(arrived) if n not in arrived[i + 1 :]] == [b"0", b"1", b"2"]


async def test_a_producer_that_lost_count_is_replaced() -> None:
    publisher, arrived, made = a_publisher(None, OutOfOrderSequenceNumber(), ProducerClosed())
    await publisher.publish(messages(2))
    assert arrived == [b"0", b"1"]
    assert [producer.stopped for producer in made] == [True, False]


async def test_calls_that_meet_the_same_lost_count_replace_the_producer_once() -> None:
    lost = [OutOfOrderSequenceNumber() for _ in range(3)]
    publisher, arrived, made = a_publisher(*lost)
    await asyncio.gather(*(publisher.publish([message]) for message in messages(3)))
    assert sorted(arrived) == [b"0", b"1", b"2"]
    assert len(made) == 2


async def test_trouble_that_will_not_pass_is_raised() -> None:
    publisher, _, _ = a_publisher(None, MessageSizeTooLargeError())
    with pytest.raises(MessageSizeTooLargeError):
        await publisher.publish(messages(2))


async def test_nothing_to_publish_is_published_at_once() -> None:
    publisher, arrived, _ = a_publisher()
    await publisher.publish([])
    assert arrived == []
