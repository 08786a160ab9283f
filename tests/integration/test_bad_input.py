"""Whatever is thrown at the topics that apps write to is kept with its reason, and all goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from cli.registry import publish_models
from cli.stack import EXECUTOR, INVENTORY, LOOP, Stack
from libs.common import wire
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.messages import InferenceResult, InventoryVerdict
from libs.common.ports import Outgoing, Reader, Record, Start
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import (
    DEAD_LETTERS,
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    INVENTORY_ORDERS,
    INVENTORY_VERDICTS,
    LOAD_TRIGGERS,
    METRICS_SAMPLES,
    OPERATOR_OVERRIDES,
    REGISTRY_MODELS,
    TOPICS,
    Topic,
)
from libs.common.wire import Origin

pytestmark = [pytest.mark.bus, pytest.mark.timeout(180)]

HUGE = b'{"request_id": "' + b"x" * 900_000  # and never closed


def line(quantity: object) -> bytes:
    return orjson.dumps({"order_id": "o-bad", "lines": [{"item": "w", "quantity": quantity}]})


def sample(value: bytes) -> bytes:
    return (
        b'{"source": "app", "at_ms": 1, "next_by_ms": 2, '
        b'"samples": [{"metric": "x", "model": "chat", "value": ' + value + b"}]}"
    )


# topic, what an app sent, and what people must be told
BAD: list[tuple[Topic, bytes, str]] = [
    (INFERENCE_REQUESTS, b"{", "not JSON"),
    (INFERENCE_REQUESTS, b"[]", "message"),
    (INFERENCE_REQUESTS, b'{"request_id": 7, "model": "chat"}', "request_id"),
    (INFERENCE_REQUESTS, b'{"request_id": "r", "model": "chat", "due_at_ms": NaN}', "not JSON"),
    (INFERENCE_REQUESTS, b'{"request_id": "r", "model": "chat", "due_at_ms": -1}', "due_at_ms"),
    (INFERENCE_REQUESTS, b'{"request_id": "r", "model": "nobody"}', "nobody"),
    (INFERENCE_REQUESTS, HUGE, "not JSON"),
    (INVENTORY_ORDERS, b"{", "not JSON"),
    (INVENTORY_ORDERS, line(0), "quantity"),
    (INVENTORY_ORDERS, line(-3), "quantity"),
    (INVENTORY_ORDERS, line("three"), "quantity"),
    (INVENTORY_ORDERS, line(1e300), "quantity"),
    (INVENTORY_ORDERS, line(0).replace(b": 0", b": NaN").replace(b":0", b":NaN"), "not JSON"),
    (INVENTORY_ORDERS, HUGE, "not JSON"),
    (METRICS_SAMPLES, b"{", "not"),
    (METRICS_SAMPLES, sample(b"NaN"), "not JSON"),
    (METRICS_SAMPLES, sample(b'"much"'), "value"),
    (METRICS_SAMPLES, HUGE, "not"),
    (LOAD_TRIGGERS, b"{", "not JSON"),
    (LOAD_TRIGGERS, b'{"model": "chat", "at_ms": 1, "factor": 2, "duration_s": 60}', "said later"),
    (LOAD_TRIGGERS, b'{"model": "chat", "at_ms": 1, "duration_s": 60}', "expected_rate_rps"),
    (LOAD_TRIGGERS, HUGE, "not JSON"),
    (OPERATOR_OVERRIDES, b"{", "not JSON"),
    (OPERATOR_OVERRIDES, b'{"target": "chat", "kind": "pin", "by": "ada"}', "how many replicas"),
    (OPERATOR_OVERRIDES, HUGE, "not JSON"),
    (REGISTRY_MODELS, b"{", "not JSON"),
    (REGISTRY_MODELS, b'{"name": "m", "weights_bytes": -1}', "weights_bytes"),
    (REGISTRY_MODELS, HUGE, "not JSON"),
]


@pytest.fixture
async def bus(
    kafka_section: KafkaSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[KafkaBus, Stack]]:
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    await kafka_admin.apply_topics(kafka_section)
    async with (
        Stack(kafka_section.bootstrap_servers, tmp_path, print) as stack,
        KafkaBus.connect(kafka_section, Origin("test", "app"), Health(20)) as connected,
    ):
        await publish_models(connected)
        await stack.start([*LOOP, INVENTORY])
        yield connected, stack


async def take(reader: Reader, count: int) -> list[Record]:
    found: list[Record] = []
    while len(found) < count:
        found += await reader.poll(0.5)
    return found


async def test_nothing_that_apps_send_is_lost_or_stops_the_stream(
    bus: tuple[KafkaBus, Stack],
) -> None:
    connected, stack = bus
    assert {topic for topic, _, _ in BAD} == {topic for topic in TOPICS if topic.from_apps}
    async with (
        connected.tail([DEAD_LETTERS], Start.EARLIEST) as letters,
        connected.tail([INFERENCE_RESULTS], Start.EARLIEST) as results,
        connected.tail([INVENTORY_VERDICTS], Start.EARLIEST) as verdicts,
    ):
        await connected.publish(
            [Outgoing(topic.name, f"k-{n}", value) for n, (topic, value, _) in enumerate(BAD)]
        )
        # Sent behind all of it, by an app that knows no headers:
        await connected.publish(
            [
                Outgoing(INFERENCE_REQUESTS.name, "r", b'{"request_id": "r", "model": "embed"}'),
                Outgoing(INVENTORY_ORDERS.name, "o-good", line(3).replace(b"o-bad", b"o-good")),
            ]
        )
        # Both schedulers follow the overrides, and each writes a letter of what it cannot read.
        twice = sum(topic is OPERATOR_OVERRIDES for topic, _, _ in BAD)
        dead = await take(letters, len(BAD) + twice)
        said = {(r.headers["dead-topic"].decode(), r.value): r.headers for r in dead}
        for topic, value, reason in BAD:
            headers = said[(topic.name, value)]
            assert reason in headers["dead-reason"].decode(), (topic.name, value[:60])
            assert headers["dead-offset"].isdigit()
            assert headers["dead-by"].startswith(b"/plimsoll/")
        (result,) = await take(results, 1)
        assert wire.decode_json(result, InferenceResult).request_id == "r"
        (verdict,) = await take(verdicts, 1)
        assert wire.decode_json(verdict, InventoryVerdict).verdict == "rejected"
        assert await letters.poll(0.5) == [], "each is kept once"

    counted = await stack.get(INVENTORY, "/metrics")
    orders = sum(topic is INVENTORY_ORDERS for topic, _, _ in BAD)
    assert f'plimsoll_dead_letters_total{{topic="inventory.orders"}} {orders}.0' in counted
    assert "plimsoll_dead_letters_total" in await stack.get(EXECUTOR, "/metrics")
    assert not any(stack.restarts.values()), "no service ended"
