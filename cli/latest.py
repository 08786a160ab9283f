"""The newest routing table and forecast of each model: from Redis, or else from the log itself.

A script calls `await latest()`. Both places hold the same records, so without Redis it is only
slower.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.connection import connect, kafka_section
from libs.common import plimsoll_pb2 as pb
from libs.common import settings
from libs.common.adapters.clock import WallClock
from libs.common.adapters.redis import RedisCache
from libs.common.errors import ContractError
from libs.common.messages import RoutingTable
from libs.common.ports import Bus, Cache, KeyOf, Record, Start
from libs.common.settings import RedisSection, Settings
from libs.common.topics import LOAD_FORECASTS, ROUTING_TABLE
from libs.common.wire import read as read_record

TOPICS = (ROUTING_TABLE, LOAD_FORECASTS)
NO_CACHE = "no Redis is set (PLIMSOLL_REDIS__URL)"
TIMES = ("at_ms", "newest_sample_ms", "next_by_ms")
COLUMNS = ("model", "open / all", "θ", "epoch-tick", "rate/s", "foreseen/s", "queue", "age s")


class LatestSettings(Settings):
    """What `plimsoll latest` reads."""

    redis: RedisSection = RedisSection()


@dataclass(frozen=True)
class Latest:
    """By model; a model may have one without the other."""

    tables: Mapping[str, RoutingTable]
    forecasts: Mapping[str, pb.LoadForecast]
    source: str  # redis, log
    note: str  # why not from Redis; empty where it is

    def of(self, model: str) -> "Latest":
        """Return what there is of one model."""
        tables = {name: table for name, table in self.tables.items() if name == model}
        forecasts = {name: f for name, f in self.forecasts.items() if name == model}
        return Latest(tables, forecasts, self.source, self.note)

    @property
    def models(self) -> list[str]:
        """The names of all models that anything is said of."""
        return sorted(self.tables.keys() | self.forecasts.keys())


async def read(cache: Cache | None, bus: AbstractAsyncContextManager[Bus]) -> Latest:
    """Return the newest of all models; `bus` is entered only where the log is needed.

    Raises:
        SettingError: Redis cannot tell, and the broker cannot be reached either.
    """
    values: Mapping[KeyOf, bytes] = {}
    note = NO_CACHE
    if cache is not None:
        try:
            values = await cache.newest(TOPICS)
            note = "Redis is empty, or no scheduler keeps it up"
        except ConnectionError as error:
            note = f"Redis is away ({error})"
    if values:
        return _latest(values, "redis", "")
    async with bus as log:
        return _latest(await _from_log(log), "log", f"{note}: read from the log")


async def _from_log(bus: Bus) -> dict[KeyOf, bytes]:
    values: dict[KeyOf, bytes] = {}
    for topic, start in ((ROUTING_TABLE, Start.EARLIEST), (LOAD_FORECASTS, Start.RECENT)):
        async with bus.tail([topic], start) as reader:
            while not reader.caught_up():
                for record in await reader.poll(0.2):
                    key = (record.topic, record.key or b"")
                    values.pop(key, None)
                    if record.value is not None:
                        values[key] = record.value
    return values


def _latest(values: Mapping[KeyOf, bytes], source: str, note: str) -> Latest:
    tables: dict[str, RoutingTable] = {}
    forecasts: dict[str, pb.LoadForecast] = {}
    for (topic, key), value in values.items():
        try:
            message = read_record(Record(topic, 0, 0, key, value, {}, 0))
        except ContractError:
            continue  # it is somebody else's to bury
        match message:
            case RoutingTable():
                tables[message.model] = message
            case pb.LoadForecasts():
                for forecast in message.forecasts:
                    if _is_newer(forecast, forecasts.get(forecast.model)):
                        forecasts[forecast.model] = forecast
    return Latest(tables, forecasts, source, note)


def _is_newer(forecast: pb.LoadForecast, than: pb.LoadForecast | None) -> bool:
    return than is None or forecast.at_ms >= than.at_ms


async def latest() -> Latest:
    """Return the newest of all models, from where the environment says."""
    chosen = settings.load(LatestSettings)
    section = kafka_section()
    async with AsyncExitStack() as exits:
        cache = None
        if chosen.redis.url:
            connecting = RedisCache.connect(chosen.redis.url, section.topic_prefix, "")
            cache = await exits.enter_async_context(connecting)
        return await read(cache, connect(section, "latest"))


# --- Shown ----------------------------------------------------------------------------------------


async def print_latest(model: str, *, as_json: bool) -> None:
    """Print all models, or one of them; where Redis did not tell, a line on stderr says why.

    Raises:
        ContractError: nothing is known of `model`; says of which there is.
        SettingError: as of `read`.
    """
    found = await latest()
    if found.note:
        Console(stderr=True).print(f"[dim]{escape(found.note)}[/dim]", soft_wrap=True)
    if model and model not in found.models:
        raise ContractError(f"nothing of {model}; there is {', '.join(found.models) or 'nothing'}")
    if model:
        found = found.of(model)
    if as_json:
        print(orjson.dumps(to_json(found), option=orjson.OPT_INDENT_2).decode())
    else:
        Console().print(to_table(found, WallClock().now_ms()))


def to_json(found: Latest) -> dict[str, Any]:
    """Return it as the contracts have it: {source, models: {name: {table, forecast}}}."""
    return {
        "source": found.source,
        "models": {
            model: {
                "table": table.model_dump() if (table := found.tables.get(model)) else None,
                "forecast": _forecast_as_json(found.forecasts.get(model)),
            }
            for model in found.models
        },
    }


def _forecast_as_json(forecast: pb.LoadForecast | None) -> dict[str, Any] | None:
    if forecast is None:
        return None
    said: dict[str, Any] = MessageToDict(forecast, preserving_proto_field_name=True)
    # Protobuf's own JSON writes 64-bit numbers as text; ours are below 2^53, and numbers.
    for lift in said.get("lifts", ()):
        lift.update((name, int(lift[name])) for name in ("at_ms", "until_ms"))
    return {name: int(value) if name in TIMES else value for name, value in said.items()}


def to_table(found: Latest, now_ms: int) -> Table:
    """Return a row for each model; foreseen is the mean over its longest horizon, and 99 % of it.

    An age in red: a forecast that holds no longer.
    """
    shown = Table(*COLUMNS)
    for model in found.models:
        table, forecast = found.tables.get(model), found.forecasts.get(model)
        shown.add_row(model, *_of_table(table), *_of_forecast(forecast, now_ms))
    return shown


def _of_table(table: RoutingTable | None) -> Iterable[str]:
    if table is None:
        return "–", "–", "–"
    opened = sum(route.concurrency > 0 for route in table.replicas)
    return (
        f"{opened} / {len(table.replicas)}",
        f"{table.theta:.2f}",
        f"{table.epoch}-{table.tick}",
    )


def _of_forecast(forecast: pb.LoadForecast | None, now_ms: int) -> Iterable[str]:
    if forecast is None:
        return "–", "–", "–", "–"
    foreseen = "–"
    if forecast.mean_rps and len(forecast.quantile_rps) == 6 * len(forecast.mean_rps):
        foreseen = f"{forecast.mean_rps[-1]:.1f} ({forecast.quantile_rps[-2]:.1f})"
    age = f"{(now_ms - forecast.newest_sample_ms) / 1000:.1f}"
    return (
        f"{forecast.arrival_rate_rps:.1f}" if forecast.HasField("arrival_rate_rps") else "–",
        foreseen,
        f"{forecast.queue_requests:.0f}" if forecast.HasField("queue_requests") else "–",
        age if now_ms <= forecast.next_by_ms else f"[red]{age}[/red]",
    )
