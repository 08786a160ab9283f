import orjson
import pytest

from cli.produce import outgoing, send_one, topic_named
from libs.common import topics
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import ContractError


@pytest.mark.parametrize(
    ("topic", "text", "key"),
    [
        (topics.INFERENCE_REQUESTS, '{"request_id": "1", "model": "chat"}', "1"),
        (
            topics.INVENTORY_ORDERS,
            '{"order_id": "o", "lines": [{"item": "x", "quantity": 1}]}',
            "o",
        ),
        (
            topics.METRICS_SAMPLES,
            '{"source": "s", "node": "n", "at_ms": 1, "next_by_ms": 2,'
            ' "samples": [{"metric": "m", "value": 1}]}',
            "n",
        ),
    ],
)
def test_a_message_is_keyed_by_its_contracts_key_field(
    topic: topics.Topic, text: str, key: str
) -> None:
    sent = outgoing(topic, text)
    assert sent.key == key
    assert sent.headers["content-type"] == b"application/json"
    assert orjson.loads(text).items() <= orjson.loads(sent.value).items()


def test_a_key_that_is_given_wins() -> None:
    text = '{"request_id": "1", "model": "chat"}'
    assert outgoing(topics.INFERENCE_REQUESTS, text, key="k").key == "k"


@pytest.mark.parametrize(
    ("topic", "text", "said"),
    [
        (topics.INFERENCE_REQUESTS, "{", "not JSON"),
        (topics.INFERENCE_REQUESTS, '{"request_id": "1"}', "model"),
        (topics.METRICS_SAMPLES, '{"source": "s"}', "samples"),
        (topics.METRICS_LAYOUTS, "{}", "--raw"),
        (topics.DEAD_LETTERS, "{}", "--raw"),
    ],
)
def test_what_breaks_the_contract_is_not_sent(topic: topics.Topic, text: str, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        outgoing(topic, text)


def test_raw_sends_anything() -> None:
    assert outgoing(topics.INFERENCE_REQUESTS, "{", raw=True).value == b"{"


def test_an_unknown_topic_says_which_there_are() -> None:
    with pytest.raises(ContractError, match=r"no topic nothing.*inference\.requests"):
        topic_named("nothing")


async def test_what_was_sent_is_said_to_stand_where_it_does() -> None:
    bus = MemoryBus(ManualClock())
    for number, offset in ((1, 0), (2, 1)):
        sent = outgoing(topics.INFERENCE_REQUESTS, f'{{"request_id": "{number}", "model": "m"}}')
        said = await send_one(bus, topics.INFERENCE_REQUESTS, sent)
        assert said == f"partition 0 offset {offset}"
