"""Arrivals of each model: how fast now, and how fast on average over a horizon to come.

Two estimators, with one job each. A slow one, damped Holt over whole seconds (Gardner and McKenzie,
1985), says where the load stands and tends. A fast one, an EWMA over about one sample, is far too
noisy to be the rate, but sees a burst at once: it counts only where the slow one could hardly have
brought it about by chance. One record a model; NaN says not known. How wrong these forecasts turn
out to be is the business of `residuals.py`.
"""

import math
from typing import NamedTuple

import numpy as np

from services.predictor.core.jit import Row, Table, entry, kernel, record

WINDOW_S = 300  # seconds kept of each model

LEVEL_GAIN = 0.05  # per second, once the mean of all seconds would move less
BREAK_S = 10  # seconds whose mean, where the level cannot explain it, is the new level
TREND_GAIN = 0.02
TREND_DAMPING = 0.9  # per second: a trend adds at most nine times itself, however far one looks
FAST_MS = 100.0  # a tenfold burst shows as 6.7 times in the first sample, 8.8 in the second
# An EWMA with the gain a of one sample has the variance of a mean over (2 - a) / a samples.
_FAST_GAIN = 1 - math.exp(-1.0)
FAST_WINDOW_S = FAST_MS / 1000 * (2 - _FAST_GAIN) / _FAST_GAIN
SURPRISE = 3.0  # standard deviations: once in 700 samples by chance, were they normal
EXCESS_FADES_S = 1.0  # what one sample shows seldom lasts; what lasts, the level learns
# An EWMA with the gain a is worth the mean of so many seconds.
LEVEL_WORTH_S = (2 - LEVEL_GAIN) / LEVEL_GAIN

DISPERSION_GUESS = 2.0  # burstier than Poisson: taken for true before it is measured,
DISPERSION_GUESS_S = 10.0  # and worth so many seconds afterwards
DISPERSION_STEP_MAX = 60.0  # what one step from second to second counts for at most
EARLY_MS = 200  # the part of a second in which the shortest horizon is checked

ARRIVALS = record(
    {
        "fast_rps": "f8",
        "level_rps": "f8",  # at the end of the last whole second
        "trend_rps": "f8",  # its growth, per second
        "partial": "f8",  # arrivals so far in the second that runs
        "early": "f8",  # of these, in its first 200 ms
        "dispersion": "f8",  # variance / mean of counts, drawn towards the guess
        "counts": ("f8", WINDOW_S),  # of whole seconds, a ring
        "newest": "i8",  # place of the newest in it
        "known": "i8",  # how many of them are known
    }
)


class Outlook(NamedTuple):
    """What a forecast of any horizon is made of."""

    level_rps: float
    trend_rps: float
    excess_rps: float  # of a burst, above the level
    dispersion: float  # never NaN: the guess where it is not known
    worth_s: float  # the level is as certain as the mean of so many seconds


def nothing_seen(models: int) -> Table:
    """Return the state of models never seen."""
    state = np.zeros(models, ARRIVALS)
    for field in ("fast_rps", "level_rps", "trend_rps", "partial", "early", "dispersion", "counts"):
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
    """End the second that runs: its count moves level, trend and dispersion, and a new one begins.

    A second that is not wholly known moves nothing, nor does one before the first arrival. This is
    Holt's step, but that the level begins as the mean of all seconds, and moves onto the mean of
    the last 10 s where it could hardly have brought that about by chance.
    """
    level, trend, gain = state.level_rps, state.trend_rps, _gain(state)
    first = math.isnan(level)
    count = math.nan if first and state.partial == 0 else state.partial
    state.newest = (state.newest + 1) % WINDOW_S
    state.known += int(not math.isnan(count)) - int(not math.isnan(state.counts[state.newest]))
    state.counts[state.newest] = count
    state.partial = state.early = 0.0
    if first and not math.isnan(count):
        state.level_rps, state.trend_rps = count, 0.0
    elif not math.isnan(count):
        predicted = level + TREND_DAMPING * trend
        new = max(predicted + gain * (count - predicted), 0.0)
        recent = _mean_of_last(state, BREAK_S)
        # One arrival more keeps the variance above zero where none has come.
        per_s = _or_guess(state.dispersion) * (max(predicted, 0.0) + 1 / BREAK_S)
        spread = math.sqrt(per_s * (1 / BREAK_S + 1 / LEVEL_WORTH_S))
        if abs(recent - predicted) > SURPRISE * spread:  # never where a second is not known
            new = recent
        state.level_rps = new
        state.trend_rps = TREND_GAIN * (new - level) + (1 - TREND_GAIN) * TREND_DAMPING * trend
    state.dispersion = _dispersion(state)


@entry
def outlook(state: Row, part_of_second: float) -> Outlook:
    """Return what can be foreseen when `part_of_second`, in [0, 1), of the running one is over.

    The running second moves the level by its part, so that at its end this is Holt's own step.
    """
    level_rps = state.level_rps + TREND_DAMPING * state.trend_rps * part_of_second
    gain = _gain(state)
    moved = level_rps * (1 - gain * part_of_second) + gain * state.partial
    level_rps = level_rps if math.isnan(moved) else moved
    # Until a first second is over, the fast estimate is all there is.
    level_rps = state.fast_rps if math.isnan(level_rps) else max(level_rps, 0.0)
    trend_rps = 0.0 if math.isnan(state.trend_rps) else state.trend_rps
    # Held against Poisson, not against the dispersion measured, which a burst itself drives up: it
    # would hide its own second half. One arrival more in the variance, since counts are skewed at
    # low rates: two arrivals in one sample at 1 request/s are no burst.
    variance = (level_rps + 1 / FAST_WINDOW_S) / FAST_WINDOW_S
    surprising = state.fast_rps > level_rps + SURPRISE * math.sqrt(variance)
    excess_rps = state.fast_rps - level_rps if surprising else 0.0
    worth_s = min(max(float(state.known), 1.0), LEVEL_WORTH_S)
    return Outlook(level_rps, trend_rps, excess_rps, _or_guess(state.dispersion), worth_s)


@entry
def mean_rps(seen: Outlook, horizon_s: float) -> float:
    """Return the rate expected on average over the next `horizon_s`; never negative.

    The trend's part is the mean over (0, h] of the damped sum phi + phi^2 + .. + phi^t, in closed
    form, and the burst's the mean of exp(-t / EXCESS_FADES_S).
    """
    phi = TREND_DAMPING
    trend_s = phi / (1 - phi) * (1 - (1 - phi**horizon_s) / (-horizon_s * math.log(phi)))
    fading = EXCESS_FADES_S * (1 - math.exp(-horizon_s / EXCESS_FADES_S)) / horizon_s
    foreseen = seen.level_rps + seen.trend_rps * trend_s + seen.excess_rps * fading
    return 0.0 if foreseen < 0 else foreseen  # NaN stays


@kernel
def _gain(state: Row) -> float:
    """Return the part of the next second's error that the level learns."""
    return max(LEVEL_GAIN, 1 / (state.known + 1))


@kernel
def _mean_of_last(state: Row, seconds: int) -> float:
    total = 0.0
    for back in range(seconds):
        total += state.counts[state.newest - back]  # below 0 the ring goes on at its end
    return total / seconds


@kernel
def _or_guess(dispersion: float) -> float:
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
