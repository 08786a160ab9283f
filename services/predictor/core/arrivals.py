"""Arrivals of each model: how fast now, and how fast on average over a horizon to come.

Two estimators, with one job each. A slow one, damped Holt over whole seconds (Gardner and McKenzie,
1985), says where the load stands and tends. A fast one, an EWMA over about one sample, is far too
noisy to be the rate, but sees a burst at once: it counts only where the slow one could hardly have
brought it about by chance. Arrays are (models,) unless said otherwise; NaN says not known. How
wrong these forecasts turn out to be is the business of `residuals.py`.
"""

from typing import NamedTuple

import numpy as np

from services.predictor.core.columns import Floats

WINDOW_S = 300  # seconds kept of each model

LEVEL_GAIN = 0.05  # per second, once the mean of all seconds would move less
BREAK_S = 10  # seconds whose mean, where the level cannot explain it, is the new level
TREND_GAIN = 0.02
TREND_DAMPING = 0.9  # per second: a trend adds at most nine times itself, however far one looks
FAST_MS = 100.0  # a tenfold burst shows as 6.7 times in the first sample, 8.8 in the second
# An EWMA with the gain a of one sample has the variance of a mean over (2 - a) / a samples.
_FAST_GAIN = 1 - np.exp(-1.0)
FAST_WINDOW_S = FAST_MS / 1000 * (2 - _FAST_GAIN) / _FAST_GAIN
SURPRISE = 3.0  # standard deviations: once in 700 samples by chance, were they normal
EXCESS_FADES_S = 1.0  # what one sample shows seldom lasts; what lasts, the level learns
# An EWMA with the gain a is worth the mean of so many seconds.
LEVEL_WORTH_S = (2 - LEVEL_GAIN) / LEVEL_GAIN

DISPERSION_GUESS = 2.0  # burstier than Poisson: taken for true before it is measured,
DISPERSION_GUESS_S = 10.0  # and worth so many seconds afterwards
DISPERSION_STEP_MAX = 60.0  # what one step from second to second counts for at most
EARLY_MS = 200  # the part of a second in which the shortest horizon is checked


class Arrivals(NamedTuple):
    """What is remembered of the arrivals of each model."""

    fast_rps: Floats
    level_rps: Floats  # at the end of the last whole second
    trend_rps: Floats  # its growth, per second
    partial: Floats  # arrivals so far in the second that runs
    early: Floats  # of these, in its first 200 ms
    counts: Floats  # of whole seconds, (models, WINDOW_S), newest last
    dispersion: Floats  # variance / mean of counts, drawn towards the guess


class Outlook(NamedTuple):
    """What a forecast of any horizon is made of."""

    level_rps: Floats
    trend_rps: Floats
    excess_rps: Floats  # of a burst, above the level
    dispersion: Floats  # never NaN: the guess where it is not known
    worth_s: Floats  # the level is as certain as the mean of so many seconds


def nothing_seen(models: int) -> Arrivals:
    """Return the state of models never seen."""
    unknown = np.full(models, np.nan)
    history = np.full((models, WINDOW_S), np.nan)
    return Arrivals(unknown, unknown, unknown, unknown, unknown, history, unknown)


def see(state: Arrivals, grown: Floats, elapsed_ms: float) -> Arrivals:
    """Take one sample into the fast estimate; `grown` arrivals came in `elapsed_ms`."""
    rate_rps = grown * (1000 / elapsed_ms)
    gain = 1 - np.exp(-elapsed_ms / FAST_MS)
    before = np.where(np.isnan(state.fast_rps), rate_rps, state.fast_rps)
    fast_rps = np.where(np.isnan(rate_rps), before, before + gain * (rate_rps - before))
    return state._replace(fast_rps=fast_rps)


def add(state: Arrivals, arrivals: Floats, early: Floats) -> Arrivals:
    """Count arrivals into the second that runs; NaN makes the whole second not known."""
    return state._replace(partial=state.partial + arrivals, early=state.early + early)


def close_second(state: Arrivals) -> Arrivals:
    """End the second that runs: its count moves level, trend and dispersion, and a new one begins.

    A second that is not wholly known moves nothing, nor does one before the first arrival. This is
    Holt's step, but that the level begins as the mean of all seconds, and moves onto the mean of
    the last 10 s where it could hardly have brought that about by chance.
    """
    level, trend = state.level_rps, state.trend_rps
    first = np.isnan(level)
    count = np.where(first & (state.partial == 0), np.nan, state.partial)
    counts = np.column_stack((state.counts[:, 1:], count))
    predicted = level + TREND_DAMPING * trend
    new_level = np.where(first, count, predicted + _gain(state) * (count - predicted)).clip(min=0)
    recent = counts[:, -BREAK_S:].mean(axis=1)
    # One arrival more keeps the variance above zero where none has come.
    per_s = _or_guess(state.dispersion) * (predicted.clip(min=0) + 1 / BREAK_S)
    spread = np.sqrt(per_s * (1 / BREAK_S + 1 / LEVEL_WORTH_S))
    new_level = np.where(np.abs(recent - predicted) > SURPRISE * spread, recent, new_level)
    new_trend = np.where(
        first, 0.0, TREND_GAIN * (new_level - level) + (1 - TREND_GAIN) * TREND_DAMPING * trend
    )
    unknown = np.isnan(count)
    nothing = np.zeros_like(count)
    return state._replace(
        level_rps=np.where(unknown, level, new_level),
        trend_rps=np.where(unknown, trend, new_trend),
        partial=nothing,
        early=nothing,
        counts=counts,
        dispersion=_dispersion(counts),
    )


def outlook(state: Arrivals, part_of_second: float) -> Outlook:
    """Return what can be foreseen when `part_of_second`, in [0, 1), of the running one is over.

    The running second moves the level by its part, so that at its end this is Holt's own step.
    """
    predicted = state.level_rps + TREND_DAMPING * state.trend_rps * part_of_second
    gain = _gain(state)
    moved = predicted * (1 - gain * part_of_second) + gain * state.partial
    level_rps = np.where(np.isnan(moved), predicted, moved).clip(min=0)
    # Until a first second is over, the fast estimate is all there is.
    level_rps = np.where(np.isnan(level_rps), state.fast_rps, level_rps)
    trend_rps = np.where(np.isnan(state.trend_rps), 0.0, state.trend_rps)
    # Held against Poisson, not against the dispersion measured, which a burst itself drives up: it
    # would hide its own second half. One arrival more in the variance, since counts are skewed at
    # low rates: two arrivals in one sample at 1 request/s are no burst.
    variance = (level_rps + 1 / FAST_WINDOW_S) / FAST_WINDOW_S
    surprising = state.fast_rps > level_rps + SURPRISE * np.sqrt(variance)
    excess_rps = np.where(surprising, state.fast_rps - level_rps, 0.0)
    worth_s = (~np.isnan(state.counts)).sum(axis=1).clip(1, LEVEL_WORTH_S)
    return Outlook(level_rps, trend_rps, excess_rps, _or_guess(state.dispersion), worth_s)


def mean_rps(seen: Outlook, horizon_s: Floats | float) -> Floats:
    """Return the rate expected on average over the next `horizon_s` (broadcast); never negative.

    The trend's part is the mean over (0, h] of the damped sum phi + phi^2 + .. + phi^t, in closed
    form, and the burst's the mean of exp(-t / EXCESS_FADES_S).
    """
    horizon_s = np.asarray(horizon_s, dtype=np.float64)
    phi = TREND_DAMPING
    trend_s = phi / (1 - phi) * (1 - (1 - phi**horizon_s) / (-horizon_s * np.log(phi)))
    fading = EXCESS_FADES_S * (1 - np.exp(-horizon_s / EXCESS_FADES_S)) / horizon_s
    foreseen = seen.level_rps + seen.trend_rps * trend_s + seen.excess_rps * fading
    never_negative: Floats = foreseen.clip(min=0)
    return never_negative


def _gain(state: Arrivals) -> Floats:
    """Return the part of the next second's error that the level learns, (models,)."""
    seconds = (~np.isnan(state.counts)).sum(axis=1) + 1
    gain: Floats = np.maximum(LEVEL_GAIN, 1 / seconds)
    return gain


def _or_guess(dispersion: Floats) -> Floats:
    return np.where(np.isnan(dispersion), DISPERSION_GUESS, dispersion)


def _dispersion(counts: Floats) -> Floats:
    """Return variance / mean, with the guess counted in; NaN where nothing came.

    The variance is half the mean square of the steps from second to second, which a change of
    level hardly moves (von Neumann, 1941); nor does a single burst, since each step is bounded.
    """
    steps = np.diff(counts, axis=1)
    known = (~np.isnan(steps)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(counts, axis=1) / (~np.isnan(counts)).sum(axis=1)
        each = (steps**2 / 2 / mean[:, None]).clip(max=DISPERSION_STEP_MAX)
    guess = DISPERSION_GUESS_S * DISPERSION_GUESS
    index = (np.nansum(each, axis=1) + guess) / (known + DISPERSION_GUESS_S)
    return np.where(mean > 0, index.clip(min=1.0), np.nan)
