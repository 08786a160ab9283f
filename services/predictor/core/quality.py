"""How good a model's forecasts at its lead time were of late.

`residuals.py` counts, from the start, what was judged; here the older part is forgotten.
"""

from typing import NamedTuple

import numpy as np

from services.predictor.core.columns import Floats

MEMORY_S = 600.0
# Lead times that end a second apart overlap, and tell much the same; so a figure waits for some.
JUDGED_MIN = 60.0


class Quality(NamedTuple):
    """Sums over judged forecasts, (models,), the older ones counting less."""

    judged: Floats
    covered_p95: Floats  # of these, how many lay at or above what came
    error_rps: Floats  # sum of |actual - mean|
    actual_rps: Floats


def nothing_judged(models: int) -> Quality:
    """Return the state of models never seen."""
    return Quality(*(np.zeros(models) for _ in Quality._fields))


def add(quality: Quality, grown: Quality, elapsed_s: float) -> Quality:
    """Take in by how much the sums of `Residuals` grew in `elapsed_s`."""
    kept = np.exp(-elapsed_s / MEMORY_S)
    return Quality(*(kept * old + new for old, new in zip(quality, grown, strict=True)))


def wape(quality: Quality) -> Floats:
    """Return the sum of |actual - mean| / the sum of actual, (models,); NaN: not known yet.

    It is not known where nothing came, either: no share of nothing is an error.
    """
    known = (quality.judged >= JUDGED_MIN) & (quality.actual_rps > 0)
    return _share(quality.error_rps, np.where(known, quality.actual_rps, np.nan))


def coverage_p95(quality: Quality) -> Floats:
    """Return the share of forecasts whose p95 held, (models,), in [0, 1]; NaN: not known yet."""
    known = quality.judged >= JUDGED_MIN
    return _share(quality.covered_p95, np.where(known, quality.judged, np.nan))


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = part / whole
    return share
