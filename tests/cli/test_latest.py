"""`plimsoll latest`: the same from Redis and from the log, and a line where it is the log."""

import json
from contextlib import asynccontextmanager

import pytest
import structlog
from rich.console import Console
from typer.testing import CliRunner

from cli.__main__ import app
from cli.latest import Latest, read, to_json, to_table
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.clock import WallClock
from libs.common.adapters.memory import MemoryBus
from libs.common.adapters.redis import RedisCache
from libs.common.messages import Route, RoutingTable
from libs.common.ports import Start
from libs.common.topics import LOAD_FORECASTS, ROUTING_TABLE
from libs.common.wire import Origin

TEST = Origin("test", "test")
TOPICS = (ROUTING_TABLE, LOAD_FORECASTS)


def a_table(model="chat", tick=7):
    routes = (
        Route(replica=f"{model}@n:0", concurrency=4),
        Route(replica=f"{model}@n:1", concurrency=0),
    )
    return RoutingTable(model=model, epoch=3, tick=tick, theta=0.7, replicas=routes)


def a_forecast(model="chat", at_ms=1000):
    return pb.LoadForecast(
        model=model,
        at_ms=at_ms,
        newest_sample_ms=at_ms,
        next_by_ms=at_ms + 300,
        arrival_rate_rps=12.5,
        queue_requests=3,
        horizon_ms=[200, 8000],
        mean_rps=[12.0, 14.0],
        quantile_rps=[12.0] * 6 + [14.0, 15.0, 16.0, 17.0, 18.0, 19.0],
    )


@pytest.fixture
async def bus():
    made = MemoryBus(WallClock())
    for tick in (6, 7):
        message = wire.encode(ROUTING_TABLE, "chat", a_table(tick=tick), TEST, f"t{tick}", 1000)
        await made.publish([message])
    for partition, model in enumerate(["chat", "embed"]):
        batch = pb.LoadForecasts(partition=partition, at_ms=1000, forecasts=[a_forecast(model)])
        await made.publish([wire.encode(LOAD_FORECASTS, str(partition), batch, TEST, model, 1000)])
    return made


@asynccontextmanager
async def never():
    raise AssertionError("the log is not needed")
    yield


@asynccontextmanager
async def on(bus):
    yield bus


async def fill(cache, bus):
    await cache.begin(TOPICS)
    async with bus.tail(TOPICS, Start.EARLIEST) as reader:
        await cache.put(await reader.poll(0))


async def test_redis_and_the_log_tell_the_same(bus, redis_server):
    async with RedisCache.connect(redis_server.url, "", "a") as cache:
        await fill(cache, bus)
        quick = await read(cache, never())
    slow = await read(None, on(bus))
    assert (quick.source, quick.note, slow.source) == ("redis", "", "log")
    assert quick.tables == slow.tables == {"chat": a_table()}
    assert quick.forecasts == slow.forecasts
    assert quick.models == slow.models == ["chat", "embed"]
    assert quick.of("embed").models == ["embed"]


async def test_without_an_answer_of_redis_the_log_is_read_and_a_line_says_why(bus, redis_server):
    async def note_of(cache):
        found = await read(cache, on(bus))
        assert (found.source, found.models) == ("log", ["chat", "embed"])
        return found.note

    assert await note_of(None) == "no Redis is set (PLIMSOLL_REDIS__URL): read from the log"
    async with RedisCache.connect(redis_server.url, "", "a") as cache:
        assert (await note_of(cache)).startswith("Redis is empty")
        redis_server.stop()
        assert (await note_of(cache)).startswith("Redis is away (")


def test_json_is_numbers_and_says_of_each_model_what_there_is():
    lifted = a_forecast("embed")
    lifted.lifts.add(kind="cron", at_ms=2000, until_ms=3000, announced=True)
    found = Latest({"chat": a_table()}, {"embed": lifted}, "redis", "")
    said = json.loads(json.dumps(to_json(found)))
    assert said["source"] == "redis"
    assert said["models"]["chat"]["table"]["replicas"][0] == {
        "replica": "chat@n:0",
        "concurrency": 4,
    }
    assert said["models"]["chat"]["forecast"] is None
    assert said["models"]["embed"]["table"] is None
    forecast = said["models"]["embed"]["forecast"]
    assert (forecast["at_ms"], forecast["horizon_ms"]) == (1000, [200, 8000])
    assert (forecast["lifts"][0]["at_ms"], forecast["lifts"][0]["until_ms"]) == (2000, 3000)


def test_the_table_shows_each_model_in_a_row():
    tables, forecasts = {"chat": a_table()}, {"chat": a_forecast(), "embed": a_forecast("embed")}
    console = Console(width=120, record=True)
    console.print(to_table(Latest(tables, forecasts, "redis", ""), now_ms=1200))
    rows = [line for line in console.export_text().splitlines() if "chat" in line or "emb" in line]
    cells = [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows]
    seen = ["12.5", "14.0 (18.0)", "3", "0.2"]
    assert cells == [["chat", "1 / 2", "0.70", "3-7", *seen], ["embed", "–", "–", "–", *seen]]


@pytest.fixture
def _our_own_logging():
    """The command sets where logs go, for its whole process, which here is that of all tests."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("_our_own_logging")
def test_neither_redis_nor_a_broker_is_one_plain_line(monkeypatch):
    monkeypatch.setenv("PLIMSOLL_KAFKA__START_TIMEOUT_S", "0.1")
    monkeypatch.setenv("PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    said = CliRunner().invoke(app, ["latest"])
    assert said.exit_code == 1
    assert "no broker answered" in said.stderr
    monkeypatch.setenv("PLIMSOLL_REDIS__URL", "redis://:secret@h:x")
    said = CliRunner().invoke(app, ["latest"])
    assert said.exit_code == 1
    assert "PLIMSOLL_REDIS__URL='redis://:***@h:x'" in said.stderr
