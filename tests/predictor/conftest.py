"""A router and a host that exist only as their ticks, and the registry that goes with them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from libs.common import plimsoll_pb2 as pb
from libs.common import series, ticks, wire
from libs.common.messages import BatchLaw, DeviceSpec, LoadTime, ModelSpec, Objective
from services.predictor.core import registry
from services.predictor.core.registry import Registry
from services.predictor.core.source import Sight

START_MS = 1_800_000_000_000


@dataclasses.dataclass
class Source:
    """A source of samples: set its counters, then take a tick."""

    name: str
    layout: pb.Layout
    at_ms: int = START_MS
    period_ms: int = 100
    sequence: int = 0

    def __post_init__(self) -> None:
        self.values = dict.fromkeys(self.keys(), 0.0)

    def keys(self) -> list[tuple[str, str, int]]:
        return [(s.metric, s.model or s.node, s.bucket) for s in self.layout.series]

    def add(self, metric: str, whose: str, more: float, bucket: int = 0) -> None:
        self.values[(metric, whose, bucket)] += more

    def set(self, metric: str, whose: str, value: float, bucket: int = 0) -> None:
        self.values[(metric, whose, bucket)] = value

    def sight(self, after_ms: int | None = None) -> Sight:
        self.at_ms += self.period_ms if after_ms is None else after_ms
        self.sequence += 1
        values = np.array([self.values[key] for key in self.keys()])
        return Sight(self.layout, self.name, self.at_ms, self.at_ms + 3 * self.period_ms, values)

    def tick(self) -> pb.Tick:
        sight = self.sight()
        return ticks.floats(self.layout, sight.values, sight.at_ms, sight.next_by_ms)


def _router(*models: str, device_type: str = "L4") -> Source:
    columns = []
    for model in models:
        for metric in (
            series.ARRIVALS,
            series.ENDS_OK,
            series.ENDS_LATE,
            series.QUEUE,
            series.IN_FLIGHT,
            series.PROMPT_TOKENS,
            series.OUTPUT_TOKENS,
        ):
            columns.append(pb.Series(metric=metric, model=model))
        for bucket in range(series.LATENCY_BUCKETS):
            columns.append(pb.Series(metric=series.LATENCY_RATIO, model=model, bucket=bucket))
        for metric in (
            series.BATCHES,
            series.BATCH_REQUESTS,
            series.BATCH_SERVICE_MS,
            series.BATCH_REQUESTS_SQUARED,
            series.BATCH_CROSS,
            series.LOADS,
            series.LOAD_MS,
        ):
            columns.append(pb.Series(metric=metric, model=model, device_type=device_type))
    return Source("router/0", wire.layout_of("router/0", columns))


def _collector(kind: str, node: str) -> Source:
    metrics = {
        "host": (
            series.HOST_CPU_BUSY_S,
            series.HOST_CPU_COUNT,
            series.HOST_MEMORY_USED,
            series.HOST_MEMORY_TOTAL,
            series.HOST_NETWORK_BYTES,
        ),
        "disk": (series.HOST_DISK_BUSY_S,),
    }[kind]
    columns = [pb.Series(metric=metric, node=node) for metric in metrics]
    name = f"{kind}/{node}"
    return Source(name, wire.layout_of(name, columns), period_ms=1000 if kind == "host" else 5000)


@pytest.fixture
def router() -> Callable[..., Source]:
    """Make a router of models."""
    return _router


@pytest.fixture
def collector() -> Callable[[str, str], Source]:
    """Make the host or disk collector of a node."""
    return _collector


CHAT = ModelSpec(
    name="chat",
    objective=Objective(latency_ms=500),
    weights_bytes=1,
    load=LoadTime(image_s=2, bytes=5_000_000_000, compile_s=3),
    law={"L4": BatchLaw(alpha_ms=20, beta_ms=5)},
)
DEVICE = DeviceSpec(
    device="n/0", node="n", gpu=0, device_type="L4", memory_bytes=1, load_bytes_per_s=1e9
)


@pytest.fixture
def declared() -> Registry:
    """`chat`, on an L4 behind 1 GB/s: 10 s to load, s(b) = 20 + 5 b ms."""
    known = registry.with_model(registry.NOTHING_DECLARED, "chat", CHAT)
    return registry.with_device(known, "n/0", DEVICE)
