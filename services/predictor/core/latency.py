"""Latency against the objective, over the last seconds, from the router's 32 log buckets.

State is (SECONDS, LATENCY_BUCKETS) of each model: ends by second and bucket, the running second
last.
"""

import math

import numpy as np
import numpy.typing as npt

from libs.common.series import LATENCY_BUCKETS, LATENCY_RATIO_EDGES
from services.predictor.core.jit import entry

Floats = npt.NDArray[np.float64]

SECONDS = 6
PERCENTILE = 0.98


def nothing_seen() -> Floats:
    """Return the state of a model never seen."""
    return np.zeros((SECONDS, LATENCY_BUCKETS))


@entry
def forget(ends: Floats, seconds_passed: int) -> None:
    """Forget what is older than the window, now that so many whole seconds have passed."""
    if seconds_passed == 0:
        return
    for second in range(SECONDS):
        now = second + seconds_passed
        for bucket in range(LATENCY_BUCKETS):
            ends[second, bucket] = ends[now, bucket] if now < SECONDS else 0.0


@entry
def slo_ratio_p98(ends: Floats) -> float:
    """Return the 98th percentile of latency / objective; NaN where nothing ended.

    Within a bucket ends are taken as spread evenly over the logarithm; the last bucket is open, and
    stands for its lower edge, 6.7.
    """
    total = ends.sum()
    if total <= 0:
        return math.nan
    wanted = PERCENTILE * total
    below = 0.0
    for bucket in range(LATENCY_BUCKETS - 1):
        inside = 0.0
        for second in range(SECONDS):
            inside += ends[second, bucket]
        if below + inside >= wanted - 1e-9:
            part = (wanted - below) / inside if inside > 0 else 1.0
            # Edges are a quarter of a doubling apart: bucket i ends at edge i.
            return LATENCY_RATIO_EDGES[bucket] * 2.0 ** ((part - 1) / 4)
        below += inside
    return LATENCY_RATIO_EDGES[-1]
