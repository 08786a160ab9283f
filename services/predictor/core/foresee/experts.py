"""The methods side by side: what each remembers, and what each foretells.

EWMAs of several gains (the first is the last value), damped Holt (Gardner and McKenzie, 1985), and
for each season a table with, above it, the deviation of the last value and a slow EWMA of it: the
additive seasonal Holt-Winters at two speeds, with the level kept in the table. Gains begin as those
of a mean. The slow ones learn from one value no more than CLIP spreads (Huber, 1964): an outlier
passes them by; a change of level, told from it because it lasts, resets them.
"""

import math

import numpy as np

from services.predictor.core.foresee.arrays import (
    AT,
    BASE,
    DEVIATION,
    GAINS,
    HOLT,
    HOLT_EXPERT,
    LEVELS,
    PEAK,
    PERIOD,
    RUN,
    SEEN,
    SPREAD,
    TABLE_EXPERT,
    TABLES,
    Floats,
    Ints,
    Steps,
)
from services.predictor.core.foresee.jit import kernel

HOLT_GAIN = 0.4
TREND_GAIN = 0.06
DAMPING = 0.9
SLOW = 0.06  # gain of the slow deviation from a table
SEASON = 0.2  # least gain of a table: five cycles are remembered
SPREAD_GAIN = 0.02
CLIP = 6.0
JUMP, APART, LASTS = 8.0, 4.0, 12  # spreads, spreads, steps: what a change point is
POINTS = 8  # a season's mean or peak over a horizon is taken from so many of its steps
# The damped trend's reach at step h, and the mean of it over 1..h.
_POWERS = DAMPING ** np.arange(257)
REACH = DAMPING * (1 - _POWERS) / (1 - DAMPING)
MEAN_REACH = np.concatenate(([0.0], np.cumsum(REACH[1:]) / np.arange(1, 257)))


@kernel
def learn(state: Floats, marks: Ints, row: int, z: float) -> None:
    """Fold one value on the root scale into the levels, Holt and the spread of a row."""
    marks[row, SEEN] += 1
    n = marks[row, SEEN]
    if n == 1:
        for a in range(len(GAINS)):
            state[row, LEVELS + a] = z
        state[row, HOLT] = z
    else:
        _levels(state, marks, row, z, n)


@kernel
def learn_seasons(
    state: Floats,
    marks: Ints,
    short: Floats,
    season: Floats,
    calendar: Steps,
    row: int,
    step: int,
    z: float,
) -> None:
    """Fold the value that `learn` has folded in into the tables of the row."""
    n = marks[row, SEEN]
    period = marks[row, PERIOD]
    if period > 0:
        now = step % period
        short[row, now] = _above(state, row, 0, short[row, now], z, SEASON, n // period)
    for place in range(TABLES - 1):
        period, width = calendar[place, 0], calendar[place, 1]
        if period > 0:
            at = phase(calendar, place, step)
            visits = n // period * width + step % period % width
            season[at, row] = _above(
                state, row, place + 1, season[at, row], z, SEASON / width, visits
            )


@kernel
def _above(
    state: Floats, row: int, table: int, before: float, z: float, gain: float, visits: int
) -> float:
    """Return what the table is to hold here, having learned how far above it the value lay."""
    if math.isnan(before):
        before, visits = z, 0
    apart = z - before
    d = DEVIATION + 2 * table
    limit = CLIP * state[row, SPREAD]
    state[row, d] = apart
    state[row, d + 1] += SLOW * min(max(apart - state[row, d + 1], -limit), limit)
    return before + max(gain, 1.0 / (1.0 + visits)) * apart


@kernel
def _levels(state: Floats, marks: Ints, row: int, z: float, n: int) -> None:
    moved = abs(z - state[row, LEVELS])
    if marks[row, RUN] == 0 and n > 20 and moved > JUMP * state[row, SPREAD]:
        state[row, BASE] = state[row, LEVELS + 2]
        marks[row, RUN] = 1 if z > state[row, LEVELS] else -1
    elif marks[row, RUN] != 0:
        _watch(state, marks, row, z)
    begin = 1.0 / n
    limit = CLIP * state[row, SPREAD] if n > 20 else np.inf
    for a in range(len(GAINS)):
        error = z - state[row, LEVELS + a]
        if GAINS[a] < 0.3:
            error = min(max(error, -limit), limit)
        state[row, LEVELS + a] += max(GAINS[a], begin) * error
    # An outlier counts little, yet something: a series that never moved must be able to begin to.
    moved = min(moved, max(limit, 0.05 * moved))
    state[row, SPREAD] += max(SPREAD_GAIN, begin) * (moved - state[row, SPREAD])
    expected = state[row, HOLT] + DAMPING * state[row, HOLT + 1]
    error = z - expected
    state[row, HOLT + 1] = DAMPING * state[row, HOLT + 1] + TREND_GAIN * error
    state[row, HOLT] = expected + HOLT_GAIN * error


@kernel
def _watch(state: Floats, marks: Ints, row: int, z: float) -> None:
    """After a jump: the change is real when LASTS values in a row stay beyond the old level."""
    side = 1.0 if marks[row, RUN] > 0 else -1.0
    if side * (z - state[row, BASE]) < APART * state[row, SPREAD]:
        marks[row, RUN] = 0
        return
    marks[row, RUN] += 1 if side > 0 else -1
    if abs(marks[row, RUN]) < LASTS:
        return
    marks[row, RUN] = 0
    for a in range(2, len(GAINS)):
        state[row, LEVELS + a] = state[row, LEVELS + 1]
    for table in range(TABLES):
        d = DEVIATION + 2 * table
        state[row, d + 1] = state[row, d]


@kernel
def seasonal(
    state: Floats,
    weights: Floats,
    short: Floats,
    season: Floats,
    calendar: Steps,
    row: int,
    target: int,
    period: int,
    step: int,
    horizon: int,
    kind: int,
) -> tuple[float, float]:
    """Return the weighted sum of what the seasonal experts foretell, and of their weights."""
    point, total = 0.0, 0.0
    for table in range(TABLES):
        if (period if table == 0 else calendar[table - 1, 0]) > 0:
            found = ahead(short, season, calendar, row, table, period, step, horizon, kind)
            if not math.isnan(found):
                last = weights[row, target, TABLE_EXPERT + 2 * table]
                slow = weights[row, target, TABLE_EXPERT + 2 * table + 1]
                total += last + slow
                point += (last + slow) * found
                point += last * state[row, DEVIATION + 2 * table]
                point += slow * state[row, DEVIATION + 2 * table + 1]
    return point, total


@kernel
def reach(horizon: int, kind: int) -> float:
    """Return how many of its trends a series moves by the horizon, or on average up to it."""
    far = min(horizon, len(REACH) - 1)
    return REACH[far] if kind == AT else MEAN_REACH[far]


@kernel
def foretell(
    state: Floats,
    short: Floats,
    season: Floats,
    calendar: Steps,
    row: int,
    period: int,
    step: int,
    horizon: int,
    kind: int,
    out: Floats,
) -> None:
    """Write what each expert foretells for `horizon` steps after `step` into out, (EXPERTS,).

    NaN where an expert has nothing to go by.
    """
    for a in range(len(GAINS)):
        out[a] = state[row, LEVELS + a]
    out[HOLT_EXPERT] = state[row, HOLT] + reach(horizon, kind) * state[row, HOLT + 1]
    for table in range(TABLES):
        found = np.nan
        if (period if table == 0 else calendar[table - 1, 0]) > 0:
            found = ahead(short, season, calendar, row, table, period, step, horizon, kind)
        e = TABLE_EXPERT + 2 * table
        out[e] = found + state[row, DEVIATION + 2 * table]
        out[e + 1] = found + state[row, DEVIATION + 2 * table + 1]


@kernel
def ahead(
    short: Floats,
    season: Floats,
    calendar: Steps,
    row: int,
    table: int,
    period: int,
    step: int,
    horizon: int,
    kind: int,
) -> float:
    """Return a table at the horizon, or its mean or largest up to it; NaN where one is."""
    points = 1 if kind == AT else min(horizon, POINTS)
    total, largest = 0.0, -np.inf
    for i in range(1, points + 1):
        then = step + i * horizon // points
        if table == 0:
            value = short[row, then % period]
        else:
            value = season[phase(calendar, table - 1, then), row]
        total += value
        largest = max(largest, value)
    return largest if kind == PEAK and not math.isnan(total) else total / points


@kernel
def phase(calendar: Steps, place: int, step: int) -> int:
    """Return the row of the season tables for a step."""
    return calendar[place, 2] + step % calendar[place, 0] // calendar[place, 1]
