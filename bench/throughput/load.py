"""What is filled into Kafka: ticks of four routers, and the same values one JSON sample a message.

A router is one source, alone in its partition, and tells what a real one tells of each of its
models: counters of arrivals, ends, tokens, latency and batches, queue and in-flight. All four are
under the same load, so that a tick is coded once. Counters grow by a drawn pattern that comes
again every `PATTERN` ticks.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from libs.common import series, wire
from libs.common.ports import Outgoing
from libs.common.ticks import Coder
from libs.common.topics import METRICS_LAYOUTS, METRICS_SAMPLES
from libs.common.wire import Origin

Floats = npt.NDArray[np.float64]

ORIGIN = Origin("bench", "throughput")
SOURCES = METRICS_SAMPLES.partitions
PERIOD_MS = 100
PATTERN = 50  # ticks
DEVICE_TYPE = "L4"
SEED = 1
LOAD_MS = 30_000.0  # of each replica that was loaded
EWMA_GAIN = 0.1
OF_MODEL = (
    series.ARRIVALS,
    series.ENDS_OK,
    series.ENDS_LATE,
    series.ENDS_REJECTED,
    series.QUEUE,
    series.IN_FLIGHT,
    series.PROMPT_TOKENS,
    series.OUTPUT_TOKENS,
)
GAUGES = (series.QUEUE, series.IN_FLIGHT, series.GPU_POWER)


class Load(NamedTuple):
    """Ticks that are the same of each source, `period_ms` apart from `start_ms` on."""

    layouts: tuple[pb.Layout, ...]  # by partition
    pattern: Floats  # (PATTERN, series): by how much counters grow, and what gauges are
    is_gauge: npt.NDArray[np.bool_]  # (series,)
    start_ms: int
    period_ms: int = PERIOD_MS

    def rows(self) -> Iterator[tuple[int, Floats]]:
        """Yield the time and the values, (series,), of tick after tick, for ever."""
        at_ms, counters = self.start_ms, np.zeros(len(self.is_gauge))
        while True:
            for step in self.pattern:
                counters = counters + step
                yield at_ms, np.where(self.is_gauge, step, counters)
                at_ms += self.period_ms


def load_of(count: int, start_ms: int, period_ms: int = PERIOD_MS) -> Load:
    """Make the load; what models do not fill of `count` are gauges that the predictor passes by."""
    rng = np.random.default_rng(SEED)
    width = len(OF_MODEL) + series.LATENCY_BUCKETS + len(series.BY_DEVICE_TYPE)
    models = count // width
    metrics = [(metric, 0) for metric in OF_MODEL]
    metrics += [(series.LATENCY_RATIO, bucket) for bucket in range(series.LATENCY_BUCKETS)]
    metrics += [(metric, 0) for metric in series.BY_DEVICE_TYPE]
    drawn = _draw(models, rng)
    rest = count - models * width
    columns = [drawn[key] for key in metrics] + [rng.integers(50, 700, (PATTERN, rest))]
    layouts = tuple(_layout(partition, models, metrics, rest) for partition in range(SOURCES))
    gauge = np.array([one.metric in GAUGES for one in layouts[0].series])
    pattern = np.concatenate(columns, axis=1).astype(np.float64)
    return Load(layouts, pattern, gauge, start_ms, period_ms)


def announcements(load: Load) -> list[Outgoing]:
    """Return the messages that tell the layouts."""
    return [
        wire.encode(METRICS_LAYOUTS, one.layout_id, one, ORIGIN, one.layout_id, load.start_ms)
        for one in load.layouts
    ]


def ticks(load: Load) -> Iterator[Outgoing]:
    """Yield the messages of `metrics.samples`, tick by tick, of one source after the other."""
    coder = Coder(load.layouts[0])
    for at_ms, row in load.rows():
        tick = coder.encode(row, at_ms, at_ms + 3 * load.period_ms)
        for partition, layout in enumerate(load.layouts):
            tick.layout = int(layout.layout_id, 16)
            event_id = f"{layout.source}-{at_ms}"
            yield wire.encode(
                METRICS_SAMPLES, layout.source, tick, ORIGIN, event_id, at_ms, partition=partition
            )


def samples(load: Load) -> Iterator[Outgoing]:
    """Yield the same values as the usual agent takes them: a JSON sample a message, without end."""
    names = _names(load)
    for at_ms, row in load.rows():
        for at, (name, value) in enumerate(zip(names, row.tolist(), strict=True)):
            sample = {"timestamp": at_ms, "name": name, "value": value, "unit": "1"}
            message = json.dumps(sample, separators=(",", ":")).encode()
            yield Outgoing(METRICS_SAMPLES.name, name, message, partition=at % SOURCES)


def ewmas(load: Load, messages: int) -> dict[str, float]:
    """Return the EWMA of each series after so many messages of `samples`: the closed form.

    s_n = (1 - a)^n x_0 + sum over k of a (1 - a)^(n - k) x_k, of a series seen n times after its
    first.
    """
    names = _names(load)
    whole, rest = divmod(messages, len(names))
    rows = [row for _, (_, row) in zip(range(whole + 1), load.rows(), strict=False)]
    found = {}
    for at, (name, seen) in enumerate(zip(names, np.stack(rows, axis=1), strict=True)):
        seen = seen[: whole + (at < rest)]
        if len(seen):
            weights = EWMA_GAIN * (1 - EWMA_GAIN) ** np.arange(len(seen) - 1, -1, -1)
            weights[0] /= EWMA_GAIN
            found[name] = float(weights @ seen)
    return found


def _names(load: Load) -> list[str]:
    """Return what a sample is called that stands alone."""
    return [
        f"{one.metric}/{one.model or one.device}/{one.bucket}" for one in load.layouts[0].series
    ]


def _layout(partition: int, models: int, metrics: list[tuple[str, int]], rest: int) -> pb.Layout:
    """Return a layout whose series stand by metric, as the executor's do."""
    made = [
        pb.Series(
            metric=metric,
            kind=pb.Series.GAUGE if metric in GAUGES else pb.Series.COUNTER,
            model=f"model-{partition}-{model}",
            device_type=DEVICE_TYPE if metric in series.BY_DEVICE_TYPE else "",
            bucket=bucket,
            resolution=series.resolution(metric),
        )
        for metric, bucket in metrics
        for model in range(models)
    ]
    resolution = series.resolution(series.GPU_POWER)
    made += [
        pb.Series(metric=series.GPU_POWER, device=f"n/{gpu}", resolution=resolution)
        for gpu in range(rest)
    ]
    return wire.layout_of(f"router/{partition}", made)


def _draw(models: int, rng: np.random.Generator) -> dict[tuple[str, int], npt.NDArray[np.int64]]:
    """Return, (PATTERN, models) each, what comes of each metric and bucket in a tick.

    Batches take 10 ms and 2 ms a request, and those of one tick are alike. Each model loads once in
    a pattern, so the lead time is known, and one of its horizons.
    """
    shape = (PATTERN, models)
    came = rng.poisson(rng.uniform(0.5, 20, models), shape)
    late = rng.binomial(came, 0.01)
    batches, size = rng.integers(1, 4, shape), rng.integers(1, 9, shape)
    service_ms = 10 + 2 * size
    loads = (np.arange(PATTERN)[:, None] == rng.integers(0, PATTERN, models)).astype(np.int64)
    buckets = rng.multinomial(came, np.full(series.LATENCY_BUCKETS, 1 / series.LATENCY_BUCKETS))
    drawn = {
        series.ARRIVALS: came,
        series.ENDS_OK: came - late,
        series.ENDS_LATE: late,
        series.ENDS_REJECTED: np.zeros_like(came),
        series.QUEUE: rng.integers(0, 20, shape),
        series.IN_FLIGHT: rng.integers(0, 64, shape),
        series.PROMPT_TOKENS: came * 300,
        series.OUTPUT_TOKENS: came * 120,
        series.BATCHES: batches,
        series.BATCH_REQUESTS: batches * size,
        series.BATCH_SERVICE_MS: batches * service_ms,
        series.BATCH_REQUESTS_SQUARED: batches * size * size,
        series.BATCH_CROSS: batches * size * service_ms,
        series.LOADS: loads,
        series.LOAD_MS: loads * int(LOAD_MS),
    }
    found = {(metric, 0): values for metric, values in drawn.items()}
    for bucket in range(series.LATENCY_BUCKETS):
        found[series.LATENCY_RATIO, bucket] = buckets[:, :, bucket]
    return found
