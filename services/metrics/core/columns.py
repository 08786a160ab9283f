"""The series of each collector, and the order in which readings fill them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from libs.common import series

COUNTERS = frozenset(
    (
        series.HOST_CPU_BUSY_S,
        series.HOST_NETWORK_BYTES,
        series.HOST_DISK_BUSY_S,
        series.GPU_ENERGY,
    )
)
HOST = (  # in the order of a HostReading
    series.HOST_CPU_BUSY_S,
    series.HOST_CPU_COUNT,
    series.HOST_MEMORY_USED,
    series.HOST_MEMORY_TOTAL,
    series.HOST_NETWORK_BYTES,
)
DISK = (series.HOST_DISK_BUSY_S,)
GPU = (  # in the order of a GpuReading, after the number of the GPU
    series.GPU_UTILIZATION,
    series.GPU_MEMORY_USED,
    series.GPU_MEMORY_TOTAL,
    series.GPU_POWER,
    series.GPU_ENERGY,
    series.GPU_TEMPERATURE,
)


def node_series(metrics: Sequence[str], node: str) -> list[pb.Series]:
    """Return the series of a node, one a metric."""
    return [_series(metric, node=node) for metric in metrics]


def gpu_series(gpus: Sequence[int], node: str) -> list[pb.Series]:
    """Return the series of a node's GPUs: by metric, then by GPU, as like values compress best."""
    return [_series(metric, node=node, device=f"{node}/{gpu}") for metric in GPU for gpu in gpus]


def gpu_values(readings: Sequence[tuple[float, ...]]) -> npt.NDArray[np.float64]:
    """Return readings, each led by the number of its GPU, in the order of `gpu_series`."""
    return np.array([reading[1:] for reading in readings], dtype=np.float64).T.ravel()


def _series(metric: str, node: str, device: str = "") -> pb.Series:
    return pb.Series(
        metric=metric,
        kind=pb.Series.COUNTER if metric in COUNTERS else pb.Series.GAUGE,
        node=node,
        device=device,
        resolution=series.resolution(metric),
    )
