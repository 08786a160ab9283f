"""The latency that the predictor adds: a tick is handed to Kafka until a forecast of it is read.

Ticks come one by one at an even pace, whatever has become of those before (an open loop).
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

from bench.throughput.broker import beside, pinned, settings_of
from bench.throughput.load import ORIGIN, SOURCES, Load, announcements, ticks
from bench.throughput.shipped import SERVICE
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Outgoing, Reader, Start
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.topics import LOAD_FORECASTS

WARM_S = 5.0
STARTS_WITHIN_S = 90.0
LAST_WITHIN_S = 10.0


class Latency(NamedTuple):
    """Of so many ticks, at so many a second."""

    ticks: int
    ticks_per_s: float
    p50_ms: float
    p99_ms: float


async def measure(section: KafkaSection, load: Load, seconds: float, folder: Path) -> Latency:
    """Send ticks of `load`, all sources within its period, and wait for what is foreseen of them.

    Raises:
        LocalError: the predictor ended by itself, or no forecast came.
    """
    log = folder / "latency.log"
    await kafka_admin.apply_topics(section)
    async with (
        KafkaBus.connect(section, ORIGIN, Health(20.0)) as bus,
        bus.tail((LOAD_FORECASTS,), Start.EARLIEST) as reader,
    ):
        await bus.publish(announcements(load))
        with pinned(SERVICE, log, settings_of(section)) as process:
            live = _Live(bus, reader, load)
            within_s = STARTS_WITHIN_S + WARM_S + seconds + LAST_WITHIN_S
            await beside(process, log, live.run(seconds), within_s)
    cuts = quantiles(live.waited_ms, n=100)
    return Latency(len(live.waited_ms), 1 / live.apart_s, cuts[49], cuts[98])


class _Live:
    """Sends ticks at their pace, and notes when forecasts of them come."""

    def __init__(self, bus: KafkaBus, reader: Reader, load: Load) -> None:
        self._bus = bus
        self._reader = reader
        self._load = load
        self.apart_s = load.period_ms / 1000 / SOURCES
        self._open: list[dict[int, float]] = [{} for _ in range(SOURCES)]  # when sent, by at_ms
        self._first = asyncio.Event()  # a forecast has come
        self._counting = False
        self.waited_ms: list[float] = []

    async def run(self, seconds: float) -> None:
        """Count the ticks of so many seconds, from a while after the first forecast on."""
        reading = asyncio.create_task(self._read())
        stream = ticks(self._load)
        try:
            async with asyncio.TaskGroup() as sending:
                await self._pace(sending, stream, STARTS_WITHIN_S, until=self._first)
                await self._pace(sending, stream, WARM_S)
                for sent in self._open:
                    sent.clear()
                self._counting = True
                await self._pace(sending, stream, seconds)
            async with asyncio.timeout(LAST_WITHIN_S):
                while any(self._open):
                    await asyncio.sleep(0.05)
        finally:
            reading.cancel()

    async def _pace(
        self,
        sending: asyncio.TaskGroup,
        stream: Iterator[Outgoing],
        seconds: float,
        until: asyncio.Event | None = None,
    ) -> None:
        due_s = time.perf_counter()
        ends_s = due_s + seconds
        while due_s < ends_s and not (until is not None and until.is_set()):
            tick = next(stream)
            await asyncio.sleep(due_s - time.perf_counter())
            assert tick.partition is not None
            at_ms = pb.Tick.FromString(tick.value or b"").at_ms
            self._open[tick.partition][at_ms] = time.perf_counter()
            sending.create_task(self._bus.publish([tick]))
            due_s += self.apart_s

    async def _read(self) -> None:
        while True:
            for record in await self._reader.poll(1.0):
                now_s = time.perf_counter()
                said = wire.decode_protobuf(record, pb.LoadForecasts)
                self._first.set()
                sent = self._open[said.partition]
                for at_ms in [at_ms for at_ms in sent if at_ms <= said.at_ms]:
                    waited_s = now_s - sent.pop(at_ms)
                    if self._counting:
                        self.waited_ms.append(1000 * waited_s)
