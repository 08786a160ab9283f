"""Latency against the objective, over the last seconds, from the router's 32 log buckets.

State is (models, SECONDS, LATENCY_BUCKETS): ends by second and bucket, the running second last.
"""

import numpy as np

from libs.common.series import LATENCY_BUCKETS, LATENCY_RATIO_EDGES
from services.predictor.core.columns import Floats

SECONDS = 6
PERCENTILE = 0.98


def nothing_seen(models: int) -> Floats:
    """Return the state of models never seen."""
    return np.zeros((models, SECONDS, LATENCY_BUCKETS))


def add(ends: Floats, grown: Floats, seconds_passed: int) -> Floats:
    """Forget what is older than the window, then count the ends of one sample.

    `grown` is (models, LATENCY_BUCKETS), NaN where not known; the sample lies `seconds_passed`
    whole seconds after the one before it.
    """
    kept = ends[:, min(seconds_passed, SECONDS) :]
    fresh = np.zeros((len(ends), SECONDS - kept.shape[1], LATENCY_BUCKETS))
    moved = np.concatenate((kept, fresh), axis=1)
    moved[:, -1] += np.nan_to_num(grown)
    return moved


def slo_ratio_p98(ends: Floats) -> Floats:
    """Return the 98th percentile of latency / objective, (models,); NaN where nothing ended.

    Within a bucket ends are taken as spread evenly over the logarithm; the last bucket is open, and
    stands for its lower edge, 6.7.
    """
    counts = ends.sum(axis=1)
    total = counts.sum(axis=1)
    below = np.cumsum(counts, axis=1)
    wanted = PERCENTILE * total
    bucket = (below < wanted[:, None] - 1e-9).sum(axis=1).clip(max=LATENCY_BUCKETS - 1)
    rows = np.arange(len(ends))
    inside = counts[rows, bucket]
    reached = below[rows, bucket] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(inside > 0, (wanted - reached) / inside, 1.0)
    # Edges are a quarter of a doubling apart: bucket i ends at edge i and begins a quarter below.
    top = LATENCY_RATIO_EDGES[np.minimum(bucket, LATENCY_BUCKETS - 2)]
    ratio = np.where(bucket == LATENCY_BUCKETS - 1, top, top * 2.0 ** ((part - 1) / 4))
    return np.where(total > 0, ratio, np.nan)
