"""The predictor as it ships, `python -m services.predictor`, on one core, watched from outside.

Its forecasts say by their time how many ticks are in them. So nothing is put into its way: its
processor time is read when its first forecasts come, and when those of the last ticks have.
"""

import time
from pathlib import Path
from typing import NamedTuple

from bench.throughput.broker import beside, cpu_s, pinned, settings_of
from bench.throughput.load import ORIGIN, SOURCES, Load
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Reader, Start
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import LOAD_FORECASTS

FOLDED_WITHIN_S = 180.0
SERVICE = ["services.predictor"]


class Folded(NamedTuple):
    """What the predictor took for a message, and what it said in the end."""

    cpu_us: float
    wall_us: float
    sent: float  # forecasts of a partition sent, per message
    forecasts: dict[int, pb.LoadForecasts]  # by partition


async def fold(section: KafkaSection, load: Load, messages: int, folder: Path) -> Folded:
    """Let the predictor take what waits in `metrics.samples`, `messages` of `load`.

    Raises:
        LocalError: it ended by itself, or took too long.
    """
    log = folder / "predictor.log"
    last_ms = load.start_ms + load.period_ms * (messages // SOURCES - 1)
    async with (
        KafkaBus.connect(section, ORIGIN, Health(20.0)) as bus,
        bus.tail((LOAD_FORECASTS,), Start.EARLIEST) as reader,
    ):
        with pinned(SERVICE, log, settings_of(section)) as process:
            watching = _watch(reader, process.pid, last_ms, load)
            return await beside(process, log, watching, FOLDED_WITHIN_S)


async def _watch(reader: Reader, pid: int, last_ms: int, load: Load) -> Folded:
    newest: dict[int, pb.LoadForecasts] = {}
    begun: tuple[float, float, int, int] | None = None
    records = 0
    while len(newest) < SOURCES or min(one.at_ms for one in newest.values()) < last_ms:
        for record in await reader.poll(0.005):
            records += 1
            message = wire.decode_protobuf(record, pb.LoadForecasts)
            newest[message.partition] = message
        if begun is None and len(newest) == SOURCES:
            begun = cpu_s(pid), time.perf_counter(), _ticks_in(newest, load), records
    assert begun is not None
    folded = _ticks_in(newest, load) - begun[2]
    assert folded > 0, "all was folded before the first forecasts were seen"
    spent_s, took_s = cpu_s(pid) - begun[0], time.perf_counter() - begun[1]
    sent = (records - begun[3]) / folded
    return Folded(1e6 * spent_s / folded, 1e6 * took_s / folded, sent, newest)


def _ticks_in(newest: dict[int, pb.LoadForecasts], load: Load) -> int:
    return sum((one.at_ms - load.start_ms) // load.period_ms + 1 for one in newest.values())
