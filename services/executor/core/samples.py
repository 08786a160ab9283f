"""What the router and the devices count, and the order in which it travels.

Counters only grow, from the start of this process on. One row of values goes with one layout: both
are made here from the same lists of names, so they cannot come apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.common import series
from libs.common.plimsoll_pb2 import Series

Values = npt.NDArray[np.float64]

Record = Any  # one row of a table of the fleet's model, by the names of its fields

# Series and the field of `libs.fleet.tables.MODEL` or `LAW` that it shows.
COUNTED = {
    series.ARRIVALS: "arrivals",
    series.ENDS_OK: "ok",
    series.ENDS_LATE: "late",
    series.ENDS_REJECTED: "rejected",
    series.PROMPT_TOKENS: "prompt_tokens",
    series.OUTPUT_TOKENS: "output_tokens",
}
NOW = {series.QUEUE: "queue", series.IN_FLIGHT: "in_flight"}
BY_DEVICE_TYPE = {
    series.BATCHES: "batches",
    series.BATCH_REQUESTS: "requests",
    series.BATCH_SERVICE_MS: "service_ms",
    series.BATCH_REQUESTS_SQUARED: "requests_squared",
    series.BATCH_CROSS: "cross",
    series.LOADS: "loads",
    series.LOAD_MS: "load_ms",
}
OF_DEVICE = (
    series.GPU_SERVING_S,
    series.GPU_TRAINING_S,
    series.GPU_FREE_S,
    series.GPU_BUSY_SERVING_S,
    series.GPU_BUSY_TRAINING_S,
    series.TRAINING_STEPS,
    series.OOM,
    series.GPU_MEMORY_USED,
    series.GPU_MEMORY_TOTAL,
)
GAUGES = {*NOW, series.GPU_MEMORY_USED, series.GPU_MEMORY_TOTAL}


def model_series(model: str, device_types: Sequence[str]) -> list[Series]:
    """Return what each of `model_values` is."""
    named = [_series(name, model=model) for name in COUNTED]
    named += [
        _series(series.LATENCY_RATIO, model=model, bucket=bucket)
        for bucket in range(series.LATENCY_BUCKETS)
    ]
    named += [_series(name, model=model) for name in NOW]
    named += [
        _series(name, model=model, device_type=device_type)
        for device_type in device_types
        for name in BY_DEVICE_TYPE
    ]
    return named


def model_values(model: Record, latency_ratio: Values, laws: Sequence[Record]) -> Values:
    """Return a row, (len(model_series()),), of the fleet's records of a model."""
    row = [model[field] for field in COUNTED.values()]
    row += latency_ratio.tolist()
    row += [model[field] for field in NOW.values()]
    row += [law[field] for law in laws for field in BY_DEVICE_TYPE.values()]
    return np.array(row, np.float64)


def device_series(device: str, node: str, device_type: str) -> list[Series]:
    """Return the series of one GPU, in the order of `OF_DEVICE`."""
    return [_series(name, device=device, node=node, device_type=device_type) for name in OF_DEVICE]


def _series(metric: str, **of: str | int) -> Series:
    kind = Series.GAUGE if metric in GAUGES else Series.COUNTER
    resolution = series.resolution(metric)
    return Series(metric=metric, kind=kind, resolution=resolution, **of)  # type: ignore[arg-type]
