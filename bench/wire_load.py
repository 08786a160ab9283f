"""What `python -m bench.wire` sends: ticks of a fleet, made of this host's readings and of AR(1).

Half of a tick's series are those of the host collector, recorded here and now by its own adapter.
A node plays the recording from a moment, and at a scale, of its own, drawn from the seed, so no two
of them are alike. The other half are those of the GPU collector: utilization, power, temperature
and memory are AR(1) around a level, as seeded, and energy is the sum of the power.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from libs.common.ports import Host
from libs.common.wire import layout_of

Floats = npt.NDArray[np.float64]

PERIOD_MS = 100
START_MS = 1_800_000_000_000
SCALE = (0.5, 2.0)
OF_HOST = (  # of a HostReading, then the disk's
    series.HOST_CPU_BUSY_S,
    series.HOST_CPU_COUNT,
    series.HOST_MEMORY_USED,
    series.HOST_MEMORY_TOTAL,
    series.HOST_NETWORK_BYTES,
    series.HOST_DISK_BUSY_S,
)


class Gauge(NamedTuple):
    """An AR(1) process: x' = level + keep x (x - level) + noise x N(0, 1)."""

    level: float
    keep: float
    noise: float


UTILIZATION = Gauge(0.7, 0.9, 0.03)
POWER_W = Gauge(400.0, 0.9, 5.0)
TEMPERATURE_C = Gauge(65.0, 0.98, 0.3)
MEMORY_BLOCKS = Gauge(30_000.0, 0.9, 0.5)
MEMORY_BLOCK_BYTES = 2 * 1024 * 1024  # what a driver hands out
GPU_MEMORY_BYTES = 80 * 1024**3


class Load(NamedTuple):
    """Ticks of one source, on the grid of each series' resolution."""

    layout: pb.Layout
    names: tuple[str, ...]  # of a row that stands alone: metric and node
    units: tuple[str, ...]
    rows: Floats  # (ticks, series)
    at_ms: tuple[int, ...]  # (ticks,)


class Recording(NamedTuple):
    """What the host told; a metric that it does not tell is left out."""

    metrics: tuple[str, ...]
    rows: Floats  # (readings, metrics)


def record(host: Host, readings: int, wait: Callable[[float], None] = time.sleep) -> Recording:
    """Read the host every `PERIOD_MS`."""
    rows = []
    for _ in range(readings):
        rows.append([*host.read(), host.disk_busy_s()])
        wait(PERIOD_MS / 1000)
    told = np.array(rows, np.float64)
    known = np.flatnonzero(~np.isnan(told).any(axis=0))
    return Recording(tuple(OF_HOST[at] for at in known), told[:, known])


def load_of(
    recording: Recording, count: int, ticks: int, seed: int, host_share: float = 0.5
) -> Load:
    """Make `ticks` ticks of `count` series, sorted by metric; the recording must be longer."""
    rng = np.random.default_rng(seed)
    of_host = round(count * host_share)
    columns = _played(recording, of_host, ticks, rng)
    columns += _simulated(count - of_host, ticks, rng)
    columns.sort(key=lambda one: one[0])
    metrics = [metric for metric, _ in columns]
    resolution = np.array([series.resolution(metric) for metric in metrics])
    made = [
        pb.Series(metric=metric, node=f"n{at % 1000}", resolution=resolution[at])
        for at, metric in enumerate(metrics)
    ]
    fine = resolution < 1
    parts = np.where(fine, np.rint(1 / resolution), 1.0)
    unit = np.where(fine, 1.0, resolution)
    rows = np.rint(np.stack([column for _, column in columns], axis=1) / unit * parts)
    return Load(
        layout_of("collector/wire", made),
        tuple(f"{metric}/n{at % 1000}" for at, metric in enumerate(metrics)),
        tuple(map(_unit, metrics)),
        rows * unit / parts,
        tuple(START_MS + PERIOD_MS * tick for tick in range(ticks)),
    )


def _played(
    recording: Recording, count: int, ticks: int, rng: np.random.Generator
) -> list[tuple[str, Floats]]:
    columns = []
    for at in range(count):
        metric = at % len(recording.metrics)
        if metric == 0:  # the next node
            first = int(rng.integers(0, len(recording.rows) - ticks + 1))
            scale = rng.uniform(*SCALE)
        column = recording.rows[first : first + ticks, metric] * scale
        columns.append((recording.metrics[metric], column))
    return columns


def _simulated(count: int, ticks: int, rng: np.random.Generator) -> list[tuple[str, Floats]]:
    columns: list[tuple[str, Floats]] = []
    while len(columns) < count:  # the next GPU
        power_w = _ar1(POWER_W, ticks, rng)
        blocks = np.rint(_ar1(MEMORY_BLOCKS, ticks, rng))
        columns += [
            (series.GPU_UTILIZATION, _ar1(UTILIZATION, ticks, rng).clip(0, 1)),
            (series.GPU_POWER, power_w),
            (series.GPU_TEMPERATURE, _ar1(TEMPERATURE_C, ticks, rng)),
            (series.GPU_ENERGY, rng.uniform(0, 1e7) + np.cumsum(power_w) * PERIOD_MS / 1000),
            (series.GPU_MEMORY_USED, blocks * MEMORY_BLOCK_BYTES),
            (series.GPU_MEMORY_TOTAL, np.full(ticks, float(GPU_MEMORY_BYTES))),
        ]
    return columns[:count]


def _ar1(gauge: Gauge, ticks: int, rng: np.random.Generator) -> Floats:
    shocks = gauge.noise * rng.standard_normal(ticks)
    away = gauge.noise / np.sqrt(1 - gauge.keep**2) * rng.standard_normal()
    column = np.empty(ticks)
    for tick in range(ticks):
        away = gauge.keep * away + shocks[tick]
        column[tick] = gauge.level + away
    return column


def _unit(metric: str) -> str:
    words: Sequence[str] = metric.removesuffix("_total").split("_")
    return words[-1]
