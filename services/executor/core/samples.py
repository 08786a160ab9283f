"""What the router and the devices count, and the order in which it travels.

Counters only grow, from the start of this process on. One row of values goes with one layout: both
are made here from the same lists of names, so they cannot come apart.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from libs.common import series
from libs.common.plimsoll_pb2 import Series

Values = npt.NDArray[np.float64]

ENDS = {"ok": series.ENDS_OK, "late": series.ENDS_LATE, "rejected": series.ENDS_REJECTED}
COUNTED = (series.ARRIVALS, *ENDS.values(), series.PROMPT_TOKENS, series.OUTPUT_TOKENS)
NOW = (series.QUEUE, series.IN_FLIGHT)
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


class ModelCounts:
    """The counters of one model."""

    def __init__(self, device_types: Sequence[str]) -> None:
        self._device_types = tuple(device_types)
        self._counted = dict.fromkeys(COUNTED, 0.0)
        self._latency_ratio = np.zeros(series.LATENCY_BUCKETS)
        self._by_type = {name: [0.0] * len(series.BY_DEVICE_TYPE) for name in self._device_types}

    def arrived(self, prompt_tokens: int) -> None:
        """Count a request as the router saw it."""
        self._counted[series.ARRIVALS] += 1
        self._counted[series.PROMPT_TOKENS] += prompt_tokens

    def ended(self, status: str, latency_ms: float, objective_ms: float, tokens: int) -> None:
        """Count an end. A rejected request has no latency, nor an answer."""
        self._counted[ENDS[status]] += 1
        if status != "rejected":
            self._counted[series.OUTPUT_TOKENS] += tokens
            self._latency_ratio[series.latency_bucket(latency_ms / objective_ms)] += 1

    def batch_ended(self, device_type: str, size: int, service_ms: float) -> None:
        """Add a batch to the sums from which s(b) = alpha + beta x b is fitted."""
        sums = self._by_type[device_type]
        moments = (1, size, service_ms, size * size, size * service_ms)
        for i, moment in enumerate(moments):
            sums[i] += moment

    def loaded(self, device_type: str, load_ms: float) -> None:
        """Count a load and its time, from order to resident."""
        sums = self._by_type[device_type]
        sums[-2] += 1
        sums[-1] += load_ms

    def series(self, model: str) -> list[Series]:
        """Return what each of `values` is."""
        named = [_series(name, model=model) for name in COUNTED]
        named += [
            _series(series.LATENCY_RATIO, model=model, bucket=bucket)
            for bucket in range(series.LATENCY_BUCKETS)
        ]
        named += [_series(name, model=model) for name in NOW]
        named += [
            _series(name, model=model, device_type=device_type)
            for device_type in self._device_types
            for name in series.BY_DEVICE_TYPE
        ]
        return named

    def values(self, queued: int, running: int) -> Values:
        """Return a row, (len(series()),)."""
        by_type = [np.array(self._by_type[name]) for name in self._device_types]
        counted = np.array(list(self._counted.values()))
        now = np.array([queued, running], dtype=np.float64)
        return np.concatenate([counted, self._latency_ratio, now, *by_type])


def device_series(device: str, node: str, device_type: str) -> list[Series]:
    """Return the series of one GPU, in the order of `OF_DEVICE`."""
    return [_series(name, device=device, node=node, device_type=device_type) for name in OF_DEVICE]


def _series(metric: str, **of: str | int) -> Series:
    kind = Series.GAUGE if metric in GAUGES else Series.COUNTER
    return Series(metric=metric, kind=kind, **of)  # type: ignore[arg-type]
