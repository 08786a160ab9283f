import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from libs.common import plimsoll_pb2 as pb
from libs.common import series, wire
from libs.common.messages import AppSample, AppSamples, LoadTrigger
from libs.common.ports import Outgoing
from libs.common.ticks import KEY_EVERY, Coder, Wait
from libs.common.topics import (
    DEAD_LETTERS,
    LOAD_FORECASTS,
    LOAD_TRIGGERS,
    METRICS_LAYOUTS,
    NODE_SCORES,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
)
from services.predictor import telemetry
from services.predictor.app import LOOK_EVERY_MS
from services.predictor.core.partition import FORGET_MS
from services.predictor.core.registry import Registry
from services.predictor.declared import LAYOUT_WAIT_MS
from tests.predictor.world import ORIGIN, START_MS, World


@pytest.fixture
def world() -> World:
    return World()


async def test_each_tick_is_answered_by_a_forecast(
    world: World, router: Callable, declared: Registry
) -> None:
    source = router("chat")
    await world.announce(source.layout)
    for topic, name, spec in (
        (REGISTRY_MODELS, "chat", declared.models["chat"]),
        (REGISTRY_DEVICES, "n/0", declared.devices["n/0"]),
    ):
        await world.bus.publish([wire.encode(topic, name, spec, ORIGIN, name, START_MS)])
    async with world.running():
        for _ in range(30):
            source.add(series.ARRIVALS, "chat", 5)
            await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
    assert len(world.forecasts()) == 30
    last = world.forecasts()[-1]
    assert last.partition == 1
    assert last.forecasts[0].arrival_rate_rps == pytest.approx(50, rel=0.01)
    assert list(last.forecasts[0].horizon_ms) == [200, 1000, 5000, 15_000]
    assert world.bus.records(LOAD_FORECASTS)[-1].key == b"1"
    assert not world.reasons()


async def test_deltas_wait_for_a_key_and_then_every_tick_is_answered(
    world: World, router: Callable
) -> None:
    source = router("chat")
    await world.announce(source.layout)
    coder = Coder(source.layout)
    sent = []
    for _ in range(3 * KEY_EVERY):
        source.add(series.ARRIVALS, "chat", 5)
        sight = source.sight()
        sent.append(coder.encode(sight.values, sight.at_ms, sight.next_by_ms))
    del sent[KEY_EVERY + 3]  # lost on its way
    waits = [telemetry.SKIPPED.labels(reason) for reason in (Wait.JOINED, Wait.GAP)]
    before = [wait._value.get() for wait in waits]
    async with world.running():
        for tick in sent[3:]:  # it joins behind the first key
            await world.take(tick.SerializeToString(), wire.PROTOBUF)
    assert [wait._value.get() for wait in waits] == [
        before[0] + KEY_EVERY - 3,
        before[1] + KEY_EVERY - 4,
    ]
    assert len(world.forecasts()) == 3 + KEY_EVERY
    assert world.forecasts()[-1].forecasts[0].arrival_rate_rps == pytest.approx(50, rel=0.05)
    assert not world.reasons(), "nothing of it is a bad message"


async def test_a_repeated_record_is_not_answered_twice(world: World, router: Callable) -> None:
    source = router("chat")
    await world.announce(source.layout)
    async with world.running():
        tick = source.tick().SerializeToString()
        await world.take(tick, wire.PROTOBUF)
        await world.take(tick, wire.PROTOBUF)
    assert len(world.forecasts()) == 1


async def test_while_the_broker_is_away_only_the_newest_forecast_waits(
    world: World, router: Callable
) -> None:
    source = router("chat")
    await world.announce(source.layout)
    publish, back = world.bus.publish, asyncio.Event()

    async def away(messages: list[Outgoing]) -> None:
        await back.wait()
        await publish(messages)

    async with world.running():
        world.bus.publish = away  # type: ignore[method-assign, assignment]
        for _ in range(50):
            source.add(series.ARRIVALS, "chat", 5)
            await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        back.set()
        await world.clock.advance(0)
    sent = world.forecasts()
    assert [f.at_ms for f in sent] == [START_MS + 100, START_MS + 5000]


async def test_host_ticks_become_node_scores(world: World, collector: Callable) -> None:
    host = collector("host", "n1")
    host.at_ms = START_MS - 5000
    host.set(series.HOST_CPU_COUNT, "n1", 1)
    host.set(series.HOST_MEMORY_TOTAL, "n1", 1)
    await world.announce(host.layout)
    async with world.running():
        for _ in range(2):
            host.add(series.HOST_CPU_BUSY_S, "n1", 0.35)
            await world.take(host.tick().SerializeToString(), wire.PROTOBUF)
    (_, record) = world.bus.records(NODE_SCORES)
    (score,) = wire.decode_protobuf(record, pb.NodeScores).scores
    assert score.score == pytest.approx(0.35 * 0.4 / 0.8)
    assert not world.forecasts()


async def test_a_layout_that_comes_a_moment_later_is_waited_for(
    world: World, router: Callable
) -> None:
    source = router("chat")
    async with world.running():
        tick = source.tick().SerializeToString()
        taking = asyncio.create_task(world.take(tick, wire.PROTOBUF))
        await world.clock.advance(0)  # lets it begin to wait
        await world.clock.advance(LAYOUT_WAIT_MS - 1)
        assert not taking.done()
        await world.announce(source.layout)
        await taking
    assert len(world.forecasts()) == 1
    assert not world.reasons()


async def test_a_layout_that_never_comes_is_waited_for_once(world: World, router: Callable) -> None:
    source = router("chat")
    async with world.running():
        first = source.tick().SerializeToString()
        taking = asyncio.create_task(world.take(first, wire.PROTOBUF))
        await world.clock.advance(0)
        await world.clock.advance(LAYOUT_WAIT_MS)
        await taking
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        assert world.clock.now_ms() == START_MS + 1000 + LAYOUT_WAIT_MS
        assert len(world.reasons()) == 2
        assert "never announced" in world.reasons()[0]
        await world.announce(source.layout)
        await world.clock.advance(0)
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
    assert len(world.forecasts()) == 1, "announced at last"


def app_samples(at_ms: int, arrivals: float) -> bytes:
    sample = AppSample(metric=series.ARRIVALS, model="chat", value=arrivals)
    message = AppSamples(source="app", at_ms=at_ms, next_by_ms=at_ms + 1000, samples=(sample,))
    return message.model_dump_json().encode()


@pytest.mark.parametrize("kind", [b"application/json", b"application/json; charset=utf-8", None])
async def test_apps_may_send_samples_as_json(world: World, kind: bytes | None) -> None:
    async with world.running():
        for at in range(3):
            await world.take(app_samples(START_MS + 100 * at, 5 * at), kind)
    assert world.forecasts()[-1].forecasts[0].arrival_rate_rps == pytest.approx(50)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        (None, None, "no value"),
        (b"{broken", None, "not JSON"),
        (b"{}", b"application/json", "source: Field required"),
        (b"\xff" * 900_000, None, "not a Tick"),
        (b"{" * 900_000, None, "not JSON"),
        (b"", None, "without a layout"),
        (app_samples(START_MS + 86_400_000, 1), None, "at_ms"),
        (app_samples(START_MS, -1), None, "arrivals_total of chat is -1"),
        (app_samples(START_MS, 1).replace(b"1.0", b"NaN"), None, "not JSON"),
        (app_samples(START_MS, 1).replace(b'"chat"', b'""'), None, "neither model nor node"),
    ],
)
async def test_what_cannot_be_read_lands_in_dead_letters(
    world: World, value: bytes | None, kind: bytes | None, said: str
) -> None:
    async with world.running():
        await world.take(value, kind)
        await world.take(app_samples(START_MS, 1))
    (reason,) = world.reasons()
    assert said in reason
    assert world.bus.records(DEAD_LETTERS)[0].headers["dead-partition"] == b"1"
    assert len(world.forecasts()) == 1, "the stream goes on"


async def test_a_wrong_number_of_values_lands_in_dead_letters(
    world: World, router: Callable
) -> None:
    source = router("chat")
    await world.announce(source.layout)
    async with world.running():
        tick = source.tick()
        tick.floats = tick.floats[:-8]
        await world.take(tick.SerializeToString(), wire.PROTOBUF)
    assert "bytes of values" in world.reasons()[0]


async def test_declarations_that_cannot_be_read_are_passed_over(
    world: World, router: Callable
) -> None:
    source = router("chat")
    for topic in (METRICS_LAYOUTS, REGISTRY_MODELS, REGISTRY_DEVICES):
        await world.bus.publish([Outgoing(topic.name, "chat", b"\xff broken")])
    await world.announce(source.layout)
    async with world.running():
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
    assert len(world.forecasts()) == 1


async def test_a_source_that_falls_silent_for_good_is_forgotten(
    world: World, router: Callable
) -> None:
    source, forgotten = router("chat"), telemetry.FORGOTTEN._value.get()
    await world.announce(source.layout)
    async with world.running():
        looking = asyncio.create_task(world.predictor.look())
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        shown = ("plimsoll_sample_timestamp_seconds", {"source": "router/0"})
        await world.clock.advance(FORGET_MS)
        assert REGISTRY.get_sample_value(*shown), "its age is what the alert is about"
        await world.clock.advance(2 * LOOK_EVERY_MS)
        assert REGISTRY.get_sample_value(*shown) is None
        looking.cancel()
        source.at_ms += FORGET_MS + LOOK_EVERY_MS
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        assert telemetry.FORGOTTEN._value.get() == forgotten + 1
        assert len(world.forecasts()) == 2, "who comes back starts anew"


async def test_a_partition_that_went_away_is_forgotten(world: World, router: Callable) -> None:
    source = router("chat")
    await world.announce(source.layout)
    async with world.running():
        for _ in range(20):
            source.add(series.ARRIVALS, "chat", 5)
            await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        world.predictor.keep({0, 1})
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
        assert world.forecasts()[-1].forecasts[0].HasField("arrival_rate_rps"), "kept"
        sent = len(world.forecasts())
        world.predictor.keep({0, 2})
        await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
    assert len(world.forecasts()) == sent, "another worker answers"


def trigger(after_ms: int, **fields: float) -> Outgoing:
    said = LoadTrigger(model="chat", at_ms=START_MS + after_ms, duration_s=60, **fields)
    return wire.encode(LOAD_TRIGGERS, "chat", said, ORIGIN, "id", START_MS)


async def test_a_load_that_was_announced_is_in_the_forecasts(
    world: World, router: Callable, declared: Registry
) -> None:
    source = router("chat")
    await world.announce(source.layout)
    for topic, name, spec in (
        (REGISTRY_MODELS, "chat", declared.models["chat"]),
        (REGISTRY_DEVICES, "n/0", declared.devices["n/0"]),
    ):
        await world.bus.publish([wire.encode(topic, name, spec, ORIGIN, name, START_MS)])
    await world.bus.publish([trigger(10_000, expected_rate_rps=200.0)])
    async with world.running():
        for _ in range(30):
            source.add(series.ARRIVALS, "chat", 5)
            await world.take(source.tick().SerializeToString(), wire.PROTOBUF)
    forecast = world.forecasts()[-1].forecasts[0]
    assert [lift.at_ms for lift in forecast.lifts] == [START_MS + 10_000]
    assert max(forecast.peak_10s_quantile_rps) > 200
    assert forecast.mean_rps[0] == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(("mine", "letters"), [({0, 1}, 2), ({1}, 0)])
async def test_triggers_that_cannot_be_true_are_buried_by_one_worker(
    world: World, mine: set[int], letters: int
) -> None:
    late = trigger(-600_000, factor=2.0)
    unreadable = Outgoing(LOAD_TRIGGERS.name, "chat", b'{"model": "chat"}')
    await world.bus.publish([late, unreadable, trigger(10_000, factor=2.0)])
    async with world.running():
        world.predictor.keep(mine)
        await world.bus.publish([trigger(20_000, factor=2.0)])
        for _ in range(5):
            await world.clock.advance(1000)
    records = world.bus.records(DEAD_LETTERS)
    assert len(records) == letters
    assert all(record.headers["dead-topic"] == b"load.triggers" for record in records)
    if records:
        reasons = [record.headers["dead-reason"].decode() for record in records]
        assert "was said later" in reasons[0]
        assert "at_ms" in reasons[1]
