"""The newest table and forecasts in a real Redis that is flushed, stopped, or never there."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import pytest
import redis
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from cli.local.servers import RedisServer
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.clock import WallClock
from libs.common.adapters.memory import MemoryBus
from libs.common.adapters.redis import RedisCache
from libs.common.messages import Route, RoutingTable
from libs.common.ports import Outgoing, Record
from libs.common.topics import LOAD_FORECASTS, ROUTING_TABLE
from libs.common.wire import Origin
from services.scheduler import mirror
from services.scheduler.mirror import TOPICS, Mirror
from tests.scheduler.fleets import a_forecast

TEST = Origin("test", "test")
PREFIX = "test."
TABLES = f"plimsoll:{PREFIX}routing.table"
FORECASTS = f"plimsoll:{PREFIX}load.forecasts"


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PAUSE_MS", 50)


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus(WallClock())


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_server.url) as made:
        yield made


def table(model: str, tick: int) -> Outgoing:
    replicas = (Route(replica=f"{model}@n-0:0", concurrency=tick),)
    message = RoutingTable(model=model, epoch=1, tick=tick, theta=0.5, replicas=replicas)
    return wire.encode(ROUTING_TABLE, model, message, TEST, f"{model}-{tick}", 1000)


def forecast(partition: int, at_ms: int) -> Outgoing:
    message = pb.LoadForecasts(partition=partition, at_ms=at_ms)
    message.forecasts.append(a_forecast("chat", at_ms, 5.0))
    return wire.encode(LOAD_FORECASTS, str(partition), message, TEST, f"{at_ms}", at_ms)


def record(offset: int, key: bytes = b"chat", value: bytes | None = b"x") -> Record:
    return Record(ROUTING_TABLE.name, 0, offset, key, value, {}, 1000)


@asynccontextmanager
async def mirroring(bus: MemoryBus, url: str, writer: str = "a") -> AsyncIterator[None]:
    async with RedisCache.connect(url, PREFIX, writer) as cache:
        task = asyncio.create_task(Mirror(bus, cache, WallClock()).keep())
        try:
            yield
        finally:
            assert not task.done(), "whatever happens, it goes on"
            task.cancel()
            await asyncio.wait([task])


async def until_held(client: "redis.Redis", name: str, wanted: Mapping[str, Outgoing]) -> None:
    """Wait until a hash is exactly this, by key."""
    values = {key.encode(): message.value for key, message in wanted.items()}
    async with asyncio.timeout(10):
        while True:
            try:
                if client.hgetall(name) == values:
                    return
            except redis.ConnectionError:
                pass
            await asyncio.sleep(0.01)


@contextmanager
def added(name: str, **labels: str) -> Iterator[list[float]]:
    """The growth of a counter, once the block has ended."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    growth: list[float] = []
    yield growth
    growth.append((REGISTRY.get_sample_value(name, labels) or 0.0) - before)


def up() -> float | None:
    return REGISTRY.get_sample_value("plimsoll_redis_up")


async def test_what_stood_on_the_log_and_what_comes_is_held_by_its_key(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    await bus.publish([table("chat", 1), table("chat", 2), table("embed", 1), forecast(0, 1000)])
    with added("plimsoll_redis_written_total", topic="routing.table") as written:
        async with mirroring(bus, redis_server.url):
            await until_held(client, TABLES, {"chat": table("chat", 2), "embed": table("embed", 1)})
            await until_held(client, FORECASTS, {"0": forecast(0, 1000)})
            await bus.publish([table("chat", 3), forecast(0, 1100), forecast(3, 1100)])
            await bus.publish([Outgoing(ROUTING_TABLE.name, "embed", None)])
            await until_held(client, TABLES, {"chat": table("chat", 3)})
            await until_held(client, FORECASTS, {"0": forecast(0, 1100), "3": forecast(3, 1100)})
            assert up() == 1
            await asyncio.sleep(0.2)  # what is held is counted just after
    assert written == [2 + 2]


async def test_of_two_writers_the_one_that_lags_never_wins(redis_server: RedisServer) -> None:
    async with (
        RedisCache.connect(redis_server.url, PREFIX, "a") as a,
        RedisCache.connect(redis_server.url, PREFIX, "b") as b,
    ):
        for cache in (a, b):
            await cache.begin(TOPICS)
        assert await a.put([record(9, value=b"nine"), record(10, b"gone", None)])
        assert await b.put([record(8, value=b"eight"), record(9, b"gone", b"back again")])
        assert await b.newest(TOPICS) == {("routing.table", b"chat"): b"nine"}
        assert await b.put([record(9, value=b"nine"), record(11, b"gone", b"back again")])
        assert await a.newest([ROUTING_TABLE]) == {
            ("routing.table", b"chat"): b"nine",
            ("routing.table", b"gone"): b"back again",
        }


async def test_two_instances_on_one_log_agree_and_one_alone_is_enough(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    async with mirroring(bus, redis_server.url, "a"):
        async with mirroring(bus, redis_server.url, "b"):
            for tick in range(50):
                await bus.publish([table("chat", tick), table("embed", tick)])
                await asyncio.sleep(0.002)
            both = {"chat": table("chat", 49), "embed": table("embed", 49)}
            await until_held(client, TABLES, both)
        await bus.publish([table("chat", 50)])
        await until_held(client, TABLES, {**both, "chat": table("chat", 50)})


def rebuilds_so_far() -> float:
    return REGISTRY.get_sample_value("plimsoll_redis_rebuilds_total") or 0.0


async def test_a_flushed_redis_is_filled_again_from_the_log(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    await bus.publish([table("chat", 1), table("embed", 1), forecast(0, 1000)])
    begun = rebuilds_so_far()
    async with mirroring(bus, redis_server.url, "a"), mirroring(bus, redis_server.url, "b"):
        while rebuilds_so_far() < begun + 2:  # both are at work
            await asyncio.sleep(0.01)
        await until_held(client, FORECASTS, {"0": forecast(0, 1000)})
        with added("plimsoll_redis_rebuilds_total") as rebuilds:
            client.flushall()
            await bus.publish([table("chat", 2)])
            await until_held(client, TABLES, {"chat": table("chat", 2), "embed": table("embed", 1)})
            await until_held(client, FORECASTS, {"0": forecast(0, 1000)})
            await asyncio.sleep(0.3)
    assert rebuilds == [2], "once by each"


async def test_a_redis_that_was_away_has_missed_nothing_when_it_is_back(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    await bus.publish([table("chat", 1), table("embed", 1)])
    with capture_logs() as said:
        async with mirroring(bus, redis_server.url):
            await until_held(client, TABLES, {"chat": table("chat", 1), "embed": table("embed", 1)})
            redis_server.stop()
            await bus.publish([table("chat", 2)])
            while up() != 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # several tries
            redis_server.start()
            await until_held(client, TABLES, {"chat": table("chat", 2), "embed": table("embed", 1)})
            assert up() == 1
    assert [line["event"][:17] for line in said] == ["the cache is away", "the cache answers"]


async def test_a_redis_that_hangs_is_given_up_and_comes_back(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    await bus.publish([table("chat", 1)])
    async with mirroring(bus, redis_server.url):
        await until_held(client, TABLES, {"chat": table("chat", 1)})
        redis_server.pause()
        async with asyncio.timeout(3):
            while up() != 0:
                await asyncio.sleep(0.01)
        await bus.publish([table("chat", 2)])
        redis_server.resume()
        await until_held(client, TABLES, {"chat": table("chat", 2)})


async def test_what_came_from_a_log_that_is_gone_goes(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    async with RedisCache.connect(redis_server.url, PREFIX, "before") as before:
        await before.begin(TOPICS)
        await before.put([record(1000, b"chat"), record(1001, b"ghost")])
    await bus.publish([table("chat", 1), table("embed", 1)])  # at offsets 0 and 1
    async with mirroring(bus, redis_server.url):
        await until_held(client, TABLES, {"chat": table("chat", 1), "embed": table("embed", 1)})
        await bus.publish([table("chat", 2)])
        await until_held(client, TABLES, {"chat": table("chat", 2), "embed": table("embed", 1)})


async def test_a_log_that_begins_anew_under_our_eyes_is_followed(
    bus: MemoryBus, redis_server: RedisServer, client: "redis.Redis"
) -> None:
    await bus.publish([table("chat", tick) for tick in range(5)])
    async with mirroring(bus, redis_server.url):
        await until_held(client, TABLES, {"chat": table("chat", 4)})
        await bus.publish([table("chat", 5)])
        await until_held(client, TABLES, {"chat": table("chat", 5)})
        bus.begin_anew(ROUTING_TABLE)
        await bus.publish([table("embed", 0)])
        await until_held(client, TABLES, {"embed": table("embed", 0)})


async def test_values_that_nobody_keeps_up_are_not_taken_for_the_newest(
    redis_server: RedisServer, client: "redis.Redis"
) -> None:
    async with RedisCache.connect(redis_server.url, PREFIX, "a") as cache:
        await cache.begin(TOPICS)
        await cache.put([record(1)])
        assert len(await cache.newest(TOPICS)) == 1
        client.delete(f"plimsoll:{PREFIX}kept")  # as it does by itself some seconds later
        assert await cache.newest(TOPICS) == {}
        client.flushall()
        assert not await cache.put([record(2)]), "the mark is gone"
        assert await cache.newest(TOPICS) == {}, "what may be a part of all is not shown"


async def test_a_cache_that_is_nowhere_ends_each_call_soon_and_keeps_its_password() -> None:
    async with RedisCache.connect("redis://me:secret@127.0.0.1:1", PREFIX, "a") as cache:
        for call in (cache.begin(TOPICS), cache.put([record(1)]), cache.newest(TOPICS)):
            async with asyncio.timeout(1):
                with pytest.raises(ConnectionError) as caught:
                    await call
            assert "secret" not in str(caught.value)


async def test_a_fault_of_any_kind_is_said_and_survived(bus: MemoryBus) -> None:
    class Broken:
        async def begin(self, topics: object) -> dict[tuple[str, bytes], int]:
            raise ZeroDivisionError("whatever")

        put = newest = begin

    with capture_logs() as said:
        task = asyncio.create_task(Mirror(bus, Broken(), WallClock()).keep())  # type: ignore[arg-type]
        await asyncio.sleep(0.3)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
    (line,) = said
    assert isinstance(line["exc_info"], ZeroDivisionError)


async def test_a_writer_that_is_told_to_stop_stops_whatever_it_does_just_then(
    bus: MemoryBus, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "POLL_S", 0.001)  # so it mostly speaks with Redis
    rng = random.Random(1)
    async with RedisCache.connect(redis_server.url, PREFIX, "a") as cache:
        for _ in range(100):
            task = asyncio.create_task(Mirror(bus, cache, WallClock()).keep())
            await asyncio.sleep(rng.uniform(0.005, 0.02))
            task.cancel()
            await asyncio.wait([task], timeout=2)
            assert task.cancelled()
