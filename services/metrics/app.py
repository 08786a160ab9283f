"""The metrics service's shell: each collector reads at its pace and sends one tick a reading.

Counters go out as they are: rates are the reader's work, so that a lost tick loses no event.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog
from prometheus_client import Counter

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.errors import ContractError
from libs.common.ports import Bus, Clock, Device, Host
from libs.common.telemetry import Health
from libs.common.ticks import Coder
from libs.common.topics import METRICS_LAYOUTS, METRICS_SAMPLES
from libs.common.wire import Origin
from services.metrics.core import columns
from services.metrics.settings import MetricsSection

log = structlog.get_logger()

TICKS = Counter("plimsoll_metrics_ticks_total", "Ticks sent, by collector", ["collector"])
REFUSED = Counter(
    "plimsoll_metrics_refused_total",
    "Readings not sent, as a value in them was infinite or out of range, by collector",
    ["collector"],
)
LATE_PERIODS = 10  # a collector that has not read for so many is stuck


class Collector(NamedTuple):
    """One source of samples."""

    name: str
    period_ms: int
    series: Sequence[pb.Series]
    read: Callable[[], npt.NDArray[np.float64]]  # blocks; in the order of `series`


def collectors_of(section: MetricsSection, host: Host, device: Device | None) -> list[Collector]:
    """Return what this machine can tell; without `device`, nothing of GPUs."""
    node = section.node
    found = [
        Collector(
            "host",
            section.host_period_ms,
            columns.node_series(columns.HOST, node),
            lambda: np.array(host.read()),
        ),
        Collector(
            "disk",
            section.disk_period_ms,
            columns.node_series(columns.DISK, node),
            lambda: np.array([host.disk_busy_s()]),
        ),
    ]
    if device is not None:
        gpus = [reading.gpu for reading in device.read()]
        read = device.read
        found.append(
            Collector(
                "gpu",
                section.gpu_period_ms,
                columns.gpu_series(gpus, node),
                lambda: columns.gpu_values(read()),
            )
        )
    return found


async def collect(
    collector: Collector, node: str, origin: Origin, bus: Bus, clock: Clock, health: Health
) -> None:
    """Read and send, for ever: the layout first, then a tick each period.

    While the broker is away nothing piles up: readings that could not be sent are left out, and
    the counters make up for them.
    """
    source = f"{collector.name}/{node}"
    layout = wire.layout_of(source, collector.series)
    started_ms = clock.now_ms()
    event_id = f"{layout.layout_id}-{started_ms}"
    await bus.publish(
        [wire.encode(METRICS_LAYOUTS, layout.layout_id, layout, origin, event_id, started_ms)]
    )
    reading_since_ms: int | None = None

    def probe() -> str | None:
        if reading_since_ms is None:
            return None  # asleep, or waiting for the broker
        waited_ms = clock.now_ms() - reading_since_ms
        late = waited_ms > LATE_PERIODS * collector.period_ms
        return f"a reading takes {waited_ms / 1000:.0f} s and more" if late else None

    health.ready_when(source, probe)
    coder = Coder(layout)
    due_ms = started_ms
    while True:
        reading_since_ms = at_ms = clock.now_ms()
        values = await asyncio.to_thread(collector.read)
        reading_since_ms = None
        try:
            # The next one is due in a period, and may be late by another.
            tick = coder.encode(values, at_ms, at_ms + 2 * collector.period_ms)
        except ContractError as error:
            log.warning("reading refused", source=source, reason=str(error))
            REFUSED.labels(collector.name).inc()
        else:
            event_id = f"{source}-{started_ms}-{tick.sequence}"
            await bus.publish([wire.encode(METRICS_SAMPLES, node, tick, origin, event_id, at_ms)])
            TICKS.labels(collector.name).inc()
        # The next multiple of the period after now: what was missed is not made up for in a burst.
        behind = max(0, clock.now_ms() - due_ms) // collector.period_ms
        due_ms += (behind + 1) * collector.period_ms
        await clock.sleep_until_ms(due_ms)
