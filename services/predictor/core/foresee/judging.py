"""What is learned from a forecast whose time has come: whom to trust, and how far to be wrong.

The experts of each target are mixed by weights that move with the gradient of the mixture's own
loss, multiplicatively (Kivinen and Warmuth, 1997), a part of the weight being shared out anew at
each step so that none is lost for good (Herbster and Warmuth, 1998). So the mixture learns to be
better than the best of them, not only to find it.

Each quantile lies an offset above the mixture, in scales (mean distances of what came). An offset
moves up by p where what came lay above it and down by 1 - p where it lay below: in the long run
a share p lies below, whatever the distribution and however it drifts (Gibbs and Candès, 2021). The
scale follows the unrest of the present and of the part of the season, so that bands are narrow at
night and wide in a storm.
"""

import math

import numpy as np

from services.predictor.core.foresee.arrays import (
    BOUNDS,
    EXCESS,
    EXPERTS,
    PARTS,
    POINT,
    QUANTILES,
    SCALE,
    UNREST,
    Floats,
    Steps,
)
from services.predictor.core.foresee.jit import kernel
from services.predictor.core.foresee.roots import root, unroot

RATE = 0.1  # of the weights, at a loss of one scale
SHARED = 0.005
SCALE_GAIN = 0.01
MEDIAN_GAIN = 0.005  # slow: its wandering would be the forecast's own
OFFSET_GAIN = 0.05
UNREST_GAIN = 0.1
SWING_GAIN = 0.01
FAR, CALM = 5.0, 0.1  # an error counts for at most, unrest for at least so many mean distances
# Before anything is known, the offsets of a normal distribution, in mean distances.
NORMAL = np.array([0.0, 1.05, 1.61, 2.06, 2.92, 3.23])


@kernel
def judge(
    learned: Floats,
    weights: Floats,
    entry: Floats,
    actual: float,
    form: int,
    upper: float,
    judged: int,
) -> float:
    """Learn from an open forecast, (PENDING,), and what came, in the series' own unit.

    `learned` (LEARNED,) and `weights` (EXPERTS,) are those of its target, which has been judged
    `judged` times, this one included. Returns how far off it was, in mean distances.
    """
    z = root(actual, form)
    begin = 1.0 / judged
    error = z - entry[POINT]
    learned[SCALE] += max(SCALE_GAIN, begin) * (abs(error) - learned[SCALE])
    above = actual - unroot(entry[BOUNDS], form, upper)
    learned[EXCESS] += max(SCALE_GAIN, begin) * (above - learned[EXCESS])
    _offsets(learned, entry, z, judged)
    if not learned[SCALE] > 0:
        return 1.0
    _weigh(weights, entry, error / learned[SCALE], learned[SCALE])
    return min(abs(error) / learned[SCALE], FAR)


@kernel
def _offsets(learned: Floats, entry: Floats, z: float, judged: int) -> None:
    begin = 1.0 / (judged + 5.0)
    for q in range(len(QUANTILES)):
        p = QUANTILES[q]
        bound = entry[BOUNDS + q]
        # What ties with its quantile lies on neither side of it.
        above = p if z > bound else (p - 1.0 if z < bound else 0.0)
        gain = max(MEDIAN_GAIN if q == 0 else OFFSET_GAIN, begin)
        learned[q] += gain * above * (1.5 if q < 3 else 3.0)


@kernel
def _weigh(weights: Floats, entry: Floats, error: float, scale: float) -> None:
    """Move weight to experts on the side of the mixture on which what came lay.

    The loss is Huber's, of half a scale: its gradient is bounded, as an outlier's should be.
    """
    gradient = min(max(2.0 * error, -1.0), 1.0)
    total, known = 0.0, 0
    for e in range(EXPERTS):
        if not math.isnan(entry[e]):
            gain = gradient * (entry[e] - entry[POINT]) / scale
            weights[e] *= math.exp(RATE * min(max(gain, -2.0), 2.0))
            total += weights[e]
            known += 1
    for e in range(EXPERTS):
        if not math.isnan(entry[e]):
            weights[e] = (1 - SHARED) * weights[e] / total + SHARED / known


@kernel
def learn_unrest(
    state: Floats, swing: Floats, calendar: Steps, row: int, target: int, step: int, off: float
) -> None:
    """Learn how uncertain the present is, and this part of the season, from one error."""
    if target == 0:
        state[row, UNREST] += UNREST_GAIN * (off - state[row, UNREST])
    if swing.shape[0] > 0:
        part = part_of(calendar, step)
        swing[part, row] += SWING_GAIN * (off - swing[part, row])


@kernel
def unrest(state: Floats, row: int) -> float:
    """Return by what to multiply the scales of a row for what was seen of late: not all will last.

    So it is a root, as is that for the part of the season.
    """
    return math.sqrt(math.sqrt(max(state[row, UNREST], CALM)))


@kernel
def seasonal_unrest(swing: Floats, calendar: Steps, row: int, step: int) -> float:
    """Return the same for the part of the first season in which `step` lies; 1 without one."""
    if swing.shape[0] == 0:
        return 1.0
    return math.sqrt(max(swing[part_of(calendar, step), row], CALM))


@kernel
def part_of(calendar: Steps, step: int) -> int:
    """Return in which part of the first season a step lies."""
    return step % calendar[0, 0] * PARTS // calendar[0, 0]


@kernel
def mix(weights: Floats, entry: Floats) -> float:
    """Return the mixture of the experts that foretell anything, by weight."""
    total, point = 0.0, 0.0
    for e in range(EXPERTS):
        if not math.isnan(entry[e]):
            total += weights[e]
            point += weights[e] * entry[e]
    return point / total


@kernel
def bounds(learned: Floats, point: float, unrest: float, out: Floats) -> None:
    """Write the quantiles around a mixture, on the root scale, into out (6,); they never fall."""
    highest = -np.inf
    for q in range(len(QUANTILES)):
        highest = max(highest, point + learned[q] * learned[SCALE] * unrest)
        out[q] = highest
