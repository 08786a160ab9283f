"""Arrivals of each model, counted by the second, and how fast they come now.

The methods of `methods.py` say where the load stands and tends, from whole seconds. A fast
estimate, an EWMA over about one sample, is far too noisy to be the rate, but sees a burst at once:
it counts only where what they foretell could hardly have brought it about by chance. One record a
model; NaN says not known. How wrong these forecasts turn out to be is the business of
`residuals.py`.
"""

import math
from typing import NamedTuple

import numpy as np

from services.predictor.core.jit import Row, Table, entry, kernel, record

WINDOW_S = 300  # seconds kept of each model

FAST_MS = 100.0  # a tenfold burst shows as 6.7 times in the first sample, 8.8 in the second
# An EWMA with the gain a of one sample has the variance of a mean over (2 - a) / a samples.
_FAST_GAIN = 1 - math.exp(-1.0)
FAST_WINDOW_S = FAST_MS / 1000 * (2 - _FAST_GAIN) / _FAST_GAIN
SURPRISE = 3.0  # standard deviations: once in 700 samples by chance, were they normal
EXCESS_FADES_S = 1.0  # what one sample shows seldom lasts; what lasts, the level learns
LEVEL_WORTH_S = 39.0  # a level is as certain as the mean of so many seconds, or of all there are
SECOND_POINT = 1  # of the points, the one that stands for the rate now

DISPERSION_GUESS = 2.0  # burstier than Poisson: taken for true before it is measured,
DISPERSION_GUESS_S = 10.0  # and worth so many seconds afterwards
DISPERSION_STEP_MAX = 60.0  # what one step from second to second counts for at most
EARLY_MS = 200  # the part of a second in which the shortest horizon is checked

ARRIVALS = record(
    {
        "fast_rps": "f8",
        "partial": "f8",  # arrivals so far in the second that runs
        "early": "f8",  # of these, in its first 200 ms
        "dispersion": "f8",  # variance / mean of counts, drawn towards the guess
        "counts": ("f8", WINDOW_S),  # of whole seconds, a ring
        "newest": "i8",  # place of the newest in it
        "known": "i8",  # how many of them are known
        "begun": "i8",  # 1: an arrival has come
    }
)


# What the methods foretell at each kept horizon: no array, of which each look costs a count.
Points = tuple[float, float, float, float, float, float]


class Outlook(NamedTuple):
    """What a forecast of any horizon is made of."""

    points: Points
    level_rps: float  # of now
    excess_rps: float  # of a burst, above the level
    dispersion: float  # never NaN: the guess where it is not known
    worth_s: float  # the level is as certain as the mean of so many seconds


def nothing_seen(models: int) -> Table:
    """Return the state of models never seen."""
    state = np.zeros(models, ARRIVALS)
    for field in ("fast_rps", "partial", "early", "dispersion", "counts"):
        state[field] = np.nan
    return state


@entry
def see(state: Row, grown: float, elapsed_ms: float) -> None:
    """Take one sample into the fast estimate; `grown` arrivals came in `elapsed_ms`."""
    rate_rps = grown * (1000 / elapsed_ms)
    if math.isnan(state.fast_rps):
        state.fast_rps = rate_rps
    elif not math.isnan(rate_rps):
        state.fast_rps += (1 - math.exp(-elapsed_ms / FAST_MS)) * (rate_rps - state.fast_rps)


@entry
def add(state: Row, arrivals: float, early: float) -> None:
    """Count arrivals into the second that runs; NaN makes the whole second not known."""
    state.partial += arrivals
    state.early += early


@entry
def close_second(state: Row) -> None:
    """End the second that runs: its count moves the dispersion, and a new one begins.

    A second that is not wholly known counts as NaN, and so does one before the first arrival.
    """
    count = math.nan if state.begun == 0 and state.partial == 0 else state.partial
    state.begun |= int(not math.isnan(count))
    state.newest = (state.newest + 1) % WINDOW_S
    state.known += int(not math.isnan(count)) - int(not math.isnan(state.counts[state.newest]))
    state.counts[state.newest] = count
    state.partial = state.early = 0.0
    state.dispersion = _dispersion(state)


@entry
def outlook(state: Row, points: Points) -> Outlook:
    """Return what can be foreseen now, from what the methods foretell.

    Until a first second is over, the fast estimate is all there is.
    """
    level_rps = points[SECOND_POINT]
    level_rps = state.fast_rps if math.isnan(level_rps) else level_rps
    # Held against Poisson, not against the dispersion measured, which a burst itself drives up: it
    # would hide its own second half. One arrival more in the variance, since counts are skewed at
    # low rates: two arrivals in one sample at 1 request/s are no burst.
    variance = (level_rps + 1 / FAST_WINDOW_S) / FAST_WINDOW_S
    surprising = state.fast_rps > level_rps + SURPRISE * math.sqrt(variance)
    excess_rps = state.fast_rps - level_rps if surprising else 0.0
    worth_s = min(max(float(state.known), 1.0), LEVEL_WORTH_S)
    return Outlook(points, level_rps, excess_rps, or_guess(state.dispersion), worth_s)


@entry
def mean_rps(seen: Outlook, horizon: int, horizon_s: float) -> float:
    """Return the rate expected on average over a kept horizon; never negative.

    A burst fades: its part is the mean of exp(-t / EXCESS_FADES_S).
    """
    point = seen.points[horizon]
    level_rps = seen.level_rps if math.isnan(point) else point
    if seen.excess_rps == 0:
        return level_rps  # most of the time, and without the exponential
    fading = EXCESS_FADES_S * (1 - math.exp(-horizon_s / EXCESS_FADES_S)) / horizon_s
    return level_rps + seen.excess_rps * fading


@kernel
def mean_of_last(state: Row, seconds: int) -> float:
    """Return the rate of the last `seconds`; NaN where one of them is not known."""
    total = 0.0
    for back in range(seconds):
        total += state.counts[state.newest - back]  # below 0 the ring goes on at its end
    return total / seconds


@kernel
def or_guess(dispersion: float) -> float:
    """Return a dispersion; the guess where it is not known."""
    return DISPERSION_GUESS if math.isnan(dispersion) else dispersion


@kernel
def _dispersion(state: Row) -> float:
    """Return variance / mean, with the guess counted in; NaN where nothing came.

    The variance is half the mean square of the steps from second to second, which a change of
    level hardly moves (von Neumann, 1941); nor does a single burst, since each step is bounded.
    """
    total = 0.0
    for count in state.counts:
        total += 0.0 if math.isnan(count) else count
    if total == 0:
        return math.nan
    scale = state.known / (2 * total)
    before = state.counts[state.newest]
    sum_of_steps, steps = DISPERSION_GUESS_S * DISPERSION_GUESS, DISPERSION_GUESS_S
    for back in range(1, WINDOW_S):
        count = state.counts[state.newest - back]
        step = count - before
        before = count
        if not math.isnan(step):
            sum_of_steps += min(step * step * scale, DISPERSION_STEP_MAX)
            steps += 1
    return max(sum_of_steps / steps, 1.0)
