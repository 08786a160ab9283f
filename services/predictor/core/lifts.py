"""How lifts that are known ahead raise a forecast; they never lower one.

What is foreseen without them is taken as level over its horizon, and each lift as a level of its
own while it runs. Where lifts overlap, the highest counts. So the rate ahead is a step function of
time, of which means, and the largest mean of 10 s, are exact. The 10 s may end after the horizon:
a replica that is resident a lead time from now is to carry what begins then.
"""

from math import isnan
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.predictor.core.columns import Floats
from services.predictor.core.triggers import GAINS, Lift, Plan

PEAK_MS = 10_000


class Foreseen(NamedTuple):
    """A forecast of one model: H horizons, Q quantiles in rising order, in requests per second."""

    mean: Floats  # (H,)
    quantiles: Floats  # (H, Q), of the mean over the horizon
    peaks: Floats  # (H, Q), of the largest mean over 10 s


def ahead(plan: Plan, now_ms: int, horizon_ms: int) -> list[Lift]:
    """Return the lifts that run at some time of the horizon."""
    end_ms = now_ms + horizon_ms
    return [lift for lift in plan.lifts if lift.at_ms < end_ms and lift.until_ms > now_ms]


def raised(
    foreseen: Foreseen,
    horizon_ms: Floats,
    probabilities: Floats,
    lifts: list[Lift],
    gains: Floats,
    now_ms: int,
) -> Foreseen:
    """Return a forecast with lifts counted in; each of its numbers is as before, or higher.

    The mean takes the median of the gains seen; each quantile that quantile of them (the conformal
    rank), so that one lift that came twice as high is prepared for, and one that did not come is
    hardly believed. Arrays are (H,), (Q,), and gains (KINDS, GAINS). Quantiles stay in order.
    """
    if not lifts:
        return foreseen
    edges = _edges(lifts, now_ms, float(horizon_ms.max()) + PEAK_MS)
    covers = _covers(lifts, edges, now_ms)
    ordered = np.sort(gains, axis=1)
    rank = np.ceil((GAINS + 1) * probabilities - 1e-9).astype(np.int64).clip(1, GAINS) - 1
    middle = ordered[:, (GAINS - 1) // 2 : GAINS // 2 + 1].mean(axis=1, keepdims=True)

    def level(before: Floats, gain: Floats) -> Floats:
        """Return the rate in each span between edges, (spans, H, columns)."""
        out = np.repeat(before[None], len(edges) - 1, axis=0)
        for lift, covered in zip(lifts, covers, strict=True):
            lifted = _level(foreseen.mean, before, lift, gain[lift.kind], now_ms)
            lifted[lift.at_ms - now_ms >= horizon_ms] = np.nan  # a horizon knows what begins in it
            # fmax: a lift whose level is not known raises nothing.
            out[covered] = np.fmax(out[covered], lifted)
        return out

    whole = _overlaps(np.zeros(len(horizon_ms)), horizon_ms, edges) / horizon_ms[:, None]
    mean = np.einsum("hk,khc->hc", whole, level(foreseen.mean[:, None], middle))[:, 0]
    quantiles = np.einsum("hk,khc->hc", whole, level(foreseen.quantiles, ordered[:, rank]))
    over_ten = level(foreseen.peaks, ordered[:, rank])
    peaks = np.stack(
        [_largest(over_ten[:, h], edges, width) for h, width in enumerate(horizon_ms.tolist())]
    )
    # Rounding in the sums must not lower what no lift touches.
    return Foreseen(
        np.maximum(mean, foreseen.mean),
        np.maximum(quantiles, foreseen.quantiles),
        np.maximum(peaks, foreseen.peaks),
    )


def _level(mean: Floats, before: Floats, lift: Lift, gain: Floats, now_ms: int) -> Floats:
    """Return what stands in place of `before`, (H, columns), while a lift runs; NaN: not known.

    Its margin above the mean stays the same as a difference of square roots, which is how far a
    Poisson-like load lies from its mean whatever that is (Anscombe, 1948).
    """
    base = mean
    if not isnan(lift.base_rps):
        base = np.full_like(mean, lift.base_rps)
    elif lift.at_ms < now_ms and lift.factor:
        base = np.full_like(mean, np.nan)  # times what, nobody knows: it had begun when first seen
    more = (lift.rate_rps or lift.factor * base) - base
    lifted = base[:, None] + gain * np.maximum(more, 0.0)[:, None]
    margin = np.sqrt(before) - np.sqrt(mean)[:, None]
    root: Floats = (np.sqrt(lifted) + margin).clip(min=0)
    return root**2


def _edges(lifts: list[Lift], now_ms: int, end_ms: float) -> Floats:
    """Return the times, from now on, between which the rate ahead is level, (spans + 1,)."""
    times = [time - now_ms for lift in lifts for time in (lift.at_ms, lift.until_ms)]
    return np.unique(np.clip([0.0, *times, end_ms], 0.0, end_ms))


def _covers(lifts: list[Lift], edges: Floats, now_ms: int) -> list[npt.NDArray[np.bool_]]:
    """Return for each lift in which spans it runs."""
    begin = edges[:-1]
    return [(begin >= one.at_ms - now_ms) & (begin < one.until_ms - now_ms) for one in lifts]


def _overlaps(begin: Floats, end: Floats, edges: Floats) -> Floats:
    """Return by how much each interval lies in each span, (intervals, spans)."""
    low = np.maximum(begin[:, None], edges[:-1])
    high = np.minimum(end[:, None], edges[1:])
    shared: Floats = (high - low).clip(min=0)
    return shared


def _largest(level: Floats, edges: Floats, horizon_ms: float) -> Floats:
    """Return the largest mean over 10 s that begin within a horizon of a step function, (columns,).

    They begin or end at a step, since between steps a mean changes at an even pace.
    """
    begin = np.unique(np.clip(np.append(edges, edges - PEAK_MS), 0.0, horizon_ms))
    weight = _overlaps(begin, begin + PEAK_MS, edges) / PEAK_MS
    largest: Floats = (weight @ level).max(axis=0)
    return largest
