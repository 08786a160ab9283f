"""What `plimsoll handover` sends: ticks of a router, a host and an app in each partition."""

import asyncio
import time

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common import series, ticks, wire
from libs.common.messages import AppSample, AppSamples, BatchLaw, LoadTrigger, ModelSpec, Objective
from libs.common.ports import Bus, Outgoing
from libs.common.topics import (
    LOAD_TRIGGERS,
    METRICS_LAYOUTS,
    METRICS_SAMPLES,
    REGISTRY_MODELS,
)
from libs.common.wire import Origin

ORIGIN = Origin("cli", "handover")
PERIOD_MS = 40  # of each partition's ticks: 100 a second over four partitions
HOST_EACH, APP_EACH = 25, 40  # so many ticks of the router for one of these
RATE_RPS = 40.0
NODES = 8
LATEST_MS = 2000  # ticks sent at the very end are not looked at


class Load:
    """Sends for ever, a fixed number of ticks a second, and remembers when."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._rng = np.random.default_rng(7)
        self._coders: dict[str, ticks.Coder] = {}
        self._values: dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self.sent: dict[int, int] = {}  # by partition, how many
        self._sent_ms: dict[tuple[int, int], int] = {}  # partition and time of a router's tick

    async def announce(self) -> None:
        """Declare a model of each partition, its layouts, and that its load will rise twice."""
        out = []
        for partition in range(METRICS_SAMPLES.partitions):
            self.sent[partition] = 0
            for layout in (_router(partition), _host(partition)):
                self._coders[layout.source] = ticks.Coder(layout)
                self._values[layout.source] = np.zeros(len(layout.series))
                key = layout.layout_id
                out.append(wire.encode(METRICS_LAYOUTS, key, layout, ORIGIN, key, 0))
            name = _model(partition)
            spec = ModelSpec(
                name=name,
                kind="batch",
                objective=Objective(latency_ms=500),
                weights_bytes=10**9,
                law={"L4": BatchLaw(alpha_ms=20, beta_ms=2)},
            )
            out.append(wire.encode(REGISTRY_MODELS, name, spec, ORIGIN, name, 0))
            for after_ms in (20_000, 60_000):
                at_ms = _now_ms() + after_ms
                said = LoadTrigger(model=name, at_ms=at_ms, duration_s=10, factor=2.0)
                out.append(wire.encode(LOAD_TRIGGERS, name, said, ORIGIN, f"{name}-{at_ms}", 0))
        await self._bus.publish(out)

    async def run(self) -> None:
        """Send, until cancelled; what was begun is sent to its end."""
        number, due_ms = 0, _now_ms()
        while True:
            out = [m for p in self.sent for m in self._next(p, number, due_ms)]
            sending = asyncio.ensure_future(self._bus.publish(out))
            try:
                await asyncio.shield(sending)
            except asyncio.CancelledError:
                await sending
                raise
            number, due_ms = number + 1, due_ms + PERIOD_MS
            await asyncio.sleep(max(0.0, (due_ms - _now_ms()) / 1000))

    def latencies_ms(self, told_ms: list[tuple[int, int, int]]) -> list[int]:
        """Return how long after each tick was sent a forecast of it was told.

        Args:
            told_ms: forecasts by partition, time of their newest sample, and when they were told.
        """
        first, last = told_ms[0][2], told_ms[-1][2]
        waits = []
        for (partition, at_ms), sent_ms in self._sent_ms.items():
            if first <= sent_ms < last - LATEST_MS:
                # Forecasts supersede each other: that of a later tick covers this one.
                covers = (
                    when for p, upto_ms, when in told_ms if p == partition and upto_ms >= at_ms
                )
                waits.append(next(covers, last) - sent_ms)
        return waits

    def _next(self, partition: int, number: int, at_ms: int) -> list[Outgoing]:
        router, host = f"router/{partition}", f"host/{partition}"
        out = [self._tick(router, partition, at_ms, self._router_values(router))]
        self._sent_ms[(partition, at_ms)] = _now_ms()
        if number % HOST_EACH == partition:
            out.append(self._tick(host, partition, at_ms, self._host_values(host)))
        if number % APP_EACH == partition:
            sample = AppSample(metric=series.ARRIVALS, model=f"app-{partition}", value=number)
            said = AppSamples(
                source=f"app/{partition}", at_ms=at_ms, next_by_ms=at_ms + 5000, samples=(sample,)
            )
            value, headers = said.model_dump_json().encode(), {"content-type": wire.JSON}
            out.append(Outgoing(METRICS_SAMPLES.name, "app", value, headers, partition))
        self.sent[partition] += len(out)
        return out

    def _tick(
        self,
        source: str,
        partition: int,
        at_ms: int,
        values: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> Outgoing:
        tick = self._coders[source].encode(values, at_ms, at_ms + 3000)
        return wire.encode(
            METRICS_SAMPLES, source, tick, ORIGIN, f"{source}-{at_ms}", at_ms, partition=partition
        )

    def _router_values(self, source: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = self._values[source]
        came = self._rng.poisson(RATE_RPS * PERIOD_MS / 1000)
        values[0] += came
        values[1] += came
        values[2:4] = self._rng.poisson(3.0, 2)
        values[4 + self._rng.integers(series.LATENCY_BUCKETS)] += came
        return values

    def _host_values(self, source: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values = self._values[source].reshape(NODES, -1)
        values[:, 0] += self._rng.random(NODES)
        values[:, 1:] = 4.0, 4e9, 16e9
        return self._values[source]


def _router(partition: int) -> pb.Layout:
    model = _model(partition)
    names = (series.ARRIVALS, series.ENDS_OK, series.QUEUE, series.IN_FLIGHT)
    columns = [pb.Series(metric=name, model=model, resolution=1) for name in names]
    columns += [
        pb.Series(metric=series.LATENCY_RATIO, model=model, bucket=bucket, resolution=1)
        for bucket in range(series.LATENCY_BUCKETS)
    ]
    return wire.layout_of(f"router/{partition}", columns)


def _host(partition: int) -> pb.Layout:
    names = (
        series.HOST_CPU_BUSY_S,
        series.HOST_CPU_COUNT,
        series.HOST_MEMORY_USED,
        series.HOST_MEMORY_TOTAL,
    )
    nodes = [f"node-{partition}-{number}" for number in range(NODES)]
    columns = [pb.Series(metric=name, node=node) for node in nodes for name in names]
    return wire.layout_of(f"host/{partition}", columns)


def _model(partition: int) -> str:
    return f"model-{partition}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
