"""How lifts that are known ahead raise a forecast; they never lower one.

What is foreseen without them is taken as level over its horizon, and each lift as a level of its
own while it runs. Where lifts overlap, the highest counts. So the rate ahead is a step function of
time, of which means, and the largest mean of 10 s, are exact. The 10 s may end after the horizon:
a replica that is resident a lead time from now is to carry what begins then.
"""

import math

import numpy as np

from services.predictor.core.columns import Floats, Ints
from services.predictor.core.jit import Row, Table, entry, kernel, record
from services.predictor.core.triggers import GAINS, Lift, Plan

PEAK_MS = 10_000.0
MEDIAN = -1  # as a rank

LIFT = record(
    {
        "kind": "i8",
        "begin_ms": "f8",  # from now on; below 0: it runs
        "end_ms": "f8",
        "rate_rps": "f8",
        "factor": "f8",
        "base_rps": "f8",
    }
)


def ahead(plan: Plan, now_ms: int, horizon_ms: int) -> list[Lift]:
    """Return the lifts that run at some time of the horizon."""
    end_ms = now_ms + horizon_ms
    return [lift for lift in plan.lifts if lift.at_ms < end_ms and lift.until_ms > now_ms]


def table(lifts: list[Lift], now_ms: int) -> Table:
    """Return lifts as records of `LIFT`, with times from now on."""
    rows = [
        (one.kind, one.at_ms - now_ms, one.until_ms - now_ms, *one[3:5], one.base_rps)
        for one in lifts
    ]
    return np.array(rows, LIFT)


def ranks(probabilities: Floats) -> Ints:
    """Return which of the gains, in rising order, stands for each quantile: the conformal rank."""
    rank: Ints = np.ceil((GAINS + 1) * probabilities - 1e-9).astype(np.int64).clip(1, GAINS) - 1
    return rank


@entry
def count_in(
    lifts: Table, gains: Floats, rank: Ints, horizon_ms: Floats, mean: Floats, quantiles: Floats,
    peaks: Floats,
) -> None:  # fmt: skip
    """Raise a forecast of one model, in requests per second, in place; no number falls.

    These are the mean over each horizon, (H,), its quantiles and those of the largest 10 s mean,
    (H, Q) each. The mean takes the median of the gains seen, (KINDS, GAINS); each quantile the one
    of its `rank`, (Q,), so that one lift that came twice as high is prepared for, and one that did
    not come is hardly believed. Quantiles stay in order.
    """
    ordered = np.empty_like(gains)
    for kind in range(len(gains)):
        ordered[kind] = np.sort(gains[kind])
    edges = _edges(lifts, horizon_ms.max() + PEAK_MS)
    level = np.empty(len(edges) - 1)
    for h in range(len(horizon_ms)):
        horizon, before = horizon_ms[h], mean[h]
        for q in range(len(rank)):
            _set_level(level, edges, lifts, ordered, rank[q], horizon, before, quantiles[h, q])
            # Rounding in the sums must not lower what no lift touches.
            quantiles[h, q] = max(quantiles[h, q], _mean(level, edges, 0.0, horizon))
            _set_level(level, edges, lifts, ordered, rank[q], horizon, before, peaks[h, q])
            peaks[h, q] = max(peaks[h, q], _largest(level, edges, horizon))
        _set_level(level, edges, lifts, ordered, MEDIAN, horizon, before, before)
        mean[h] = max(before, _mean(level, edges, 0.0, horizon))


@kernel
def _edges(lifts: Table, end_ms: float) -> Floats:
    """Return the times, from now on, between which the rate ahead is level, (spans + 1,)."""
    times = np.empty(2 * len(lifts) + 2)
    times[-2], times[-1] = 0.0, end_ms
    for n in range(len(lifts)):
        times[2 * n] = min(max(lifts[n].begin_ms, 0.0), end_ms)
        times[2 * n + 1] = min(max(lifts[n].end_ms, 0.0), end_ms)
    return np.unique(times)


@kernel
def _set_level(
    level: Floats, edges: Floats, lifts: Table, ordered: Floats, rank: int, horizon_ms: float,
    mean: float, value: float,
) -> None:  # fmt: skip
    """Write what stands in place of `value` in each span, for a horizon with this mean."""
    level[:] = value
    for n in range(len(lifts)):
        lift = lifts[n]
        if lift.begin_ms >= horizon_ms:  # a horizon knows what begins in it
            continue
        lifted = _lifted(lift, ordered[lift.kind], rank, mean, value)
        for span in range(len(level)):
            # Where its level is not known, NaN, a lift raises nothing.
            if lift.begin_ms <= edges[span] < lift.end_ms and lifted > level[span]:
                level[span] = lifted


@kernel
def _lifted(lift: Row, gains: Floats, rank: int, mean: float, value: float) -> float:
    """Return what stands in place of `value` while a lift runs; NaN: not known.

    Its margin above the mean stays the same as a difference of square roots, which is how far a
    Poisson-like load lies from its mean whatever that is (Anscombe, 1948).
    """
    base = mean
    if not math.isnan(lift.base_rps):
        base = lift.base_rps
    elif lift.begin_ms < 0 and lift.factor > 0:
        return math.nan  # times what, nobody knows: it had begun when it was first seen
    gain = gains[rank]
    if rank == MEDIAN:
        gain = (gains[(GAINS - 1) // 2] + gains[GAINS // 2]) / 2
    expected = lift.rate_rps if lift.rate_rps > 0 else lift.factor * base
    lifted = base + gain * max(expected - base, 0.0)
    root = math.sqrt(lifted) + math.sqrt(value) - math.sqrt(mean)
    return root * root if root > 0 else 0.0


@kernel
def _mean(level: Floats, edges: Floats, begin_ms: float, end_ms: float) -> float:
    total = 0.0
    for span in range(len(level)):
        shared = min(end_ms, edges[span + 1]) - max(begin_ms, edges[span])
        total += max(shared, 0.0) * level[span]
    return total / (end_ms - begin_ms)


@kernel
def _largest(level: Floats, edges: Floats, horizon_ms: float) -> float:
    """Return the largest mean over 10 s that begin within a horizon.

    They begin or end at a step, since between steps a mean changes at an even pace.
    """
    largest = 0.0
    for edge in edges:
        for begin in (edge, edge - PEAK_MS):
            begin_ms = min(max(begin, 0.0), horizon_ms)
            largest = max(largest, _mean(level, edges, begin_ms, begin_ms + PEAK_MS))
    return largest
