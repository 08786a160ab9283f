"""The two passes over a bank's rows: one folds in a step, one foresees."""

import math

import numpy as np
import numpy.typing as npt

from services.predictor.core.foresee.arrays import (
    AT,
    BOUNDS,
    COUNT,
    EXCESS,
    FORM,
    GAINS,
    HOLT,
    HOLT_EXPERT,
    LEVELS,
    MEAN,
    PEAK,
    PERIOD,
    POINT,
    QUANTILES,
    SCALE,
    SEEN,
    SUM,
    UPPER,
    Bank,
    Floats,
    Ints,
    Steps,
)
from services.predictor.core.foresee.experts import foretell, learn, learn_seasons, reach, seasonal
from services.predictor.core.foresee.jit import kernel
from services.predictor.core.foresee.judging import (
    bounds,
    judge,
    learn_unrest,
    mix,
    seasonal_unrest,
    unrest,
)
from services.predictor.core.foresee.periods import look_for_season
from services.predictor.core.foresee.roots import PLAIN, root, unroot


def update(bank: Bank, values: npt.NDArray[np.float64], step: int, first: int) -> int:
    """Judge the forecasts due, learn, open new ones, row by row; return how many were refused."""
    # A tuple of arrays costs ten times as much to hand to a kernel as its arrays one by one, and
    # inside one it hinders the compiler as much.
    return _update(*bank, values, step, first)


def forecast(bank: Bank, step: int, first: int, mean: Floats, quantiles: Floats) -> None:
    """Foresee every target of the rows from `first` on."""
    _forecast(
        bank.state,
        bank.marks,
        bank.weights,
        bank.learned,
        bank.steps,
        bank.short,
        bank.season,
        bank.swing,
        bank.calendar,
        bank.kinds,
        step,
        first,
        mean,
        quantiles,
    )


@kernel
def _update(
    state: Floats,
    marks: Ints,
    weights: Floats,
    learned: Floats,
    steps: Ints,
    due: Steps,
    pending: Floats,
    recent: Floats,
    window: Floats,
    short: Floats,
    season: Floats,
    swing: Floats,
    calendar: Steps,
    kinds: Ints,
    every: Ints,
    values: npt.NDArray[np.float64],
    step: int,
    first: int,
) -> int:
    refused = 0
    size, slots = recent.shape[1], due.shape[2]
    now = step % size
    for i in range(len(values)):
        row = first + i
        form, upper = marks[row, FORM], state[row, UPPER]
        value = values[i]
        if not math.isnan(value) and not _possible(value, form, upper):
            refused += 1
            value = np.nan
        recent[row, now] = value
        for target in range(len(kinds)):
            kind = kinds[target]
            for slot in range(slots):
                then = due[row, target, slot]
                if then < step or (kind == AT and then > step):
                    continue
                entry = pending[row, target, slot]
                actual = value if kind == AT else _carry(entry, kind, value, recent[row])
                if then > step:
                    continue
                after = _known_after(steps[row, target], kind, size)
                turns = _turns(after, every[0], slots)
                # The slot's next forecast is a round of all slots after its last.
                due[row, target, slot] = min(after - slots * turns - step, -step)
                if not math.isnan(actual) and (kind == AT or entry[COUNT] == after):
                    judged = max(1, (marks[row, SEEN] + 1 - after) // turns)
                    of, mixed = learned[row, target], weights[row, target]
                    off = judge(of, mixed, entry, actual, form, upper, judged)
                    learn_unrest(state, swing, calendar, row, target, step, off)
        z = np.nan
        if not math.isnan(value):
            z = root(value, form)
            learn(state, marks, row, z)
            if calendar[0, 0] > 0 or marks[row, PERIOD] > 0:
                learn_seasons(state, marks, short, season, calendar, row, step, z)
        if window.shape[1] > 0:
            look_for_season(marks, window, short, row, step, z)
        if marks[row, SEEN] == 0:
            continue
        for target in range(len(kinds)):
            for slot in range(slots):
                then = due[row, target, slot]
                if then > step or (then < 0 and -then > step) or steps[row, target] == 0:
                    continue
                after = _known_after(steps[row, target], kinds[target], size)
                turns = _turns(after, every[0], slots)
                if then >= 0:  # new, or a step was left out: take up its turn, row by row
                    due[row, target, slot] = -(step + 1 + row % turns + slot * turns)
                    continue
                due[row, target, slot] = step + after
                entry = pending[row, target, slot]
                _open(
                    state, marks, weights, learned, short, season, swing, calendar,
                    entry, row, target, step, steps[row, target], kinds[target],
                )  # fmt: skip
    return refused


@kernel
def _forecast(
    state: Floats,
    marks: Ints,
    weights: Floats,
    learned: Floats,
    steps: Ints,
    short: Floats,
    season: Floats,
    swing: Floats,
    calendar: Steps,
    kinds: Ints,
    step: int,
    first: int,
    mean: Floats,
    quantiles: Floats,
) -> None:
    for i in range(mean.shape[0]):
        row = first + i
        form, upper, period = marks[row, FORM], state[row, UPPER], marks[row, PERIOD]
        lower = -np.inf if form == PLAIN else 0.0
        restless = unrest(state, row)
        seasons = period > 0 or calendar[0, 0] > 0
        for target in range(mean.shape[1]):
            horizon = steps[row, target]
            if horizon == 0 or marks[row, SEEN] == 0:
                mean[i, target] = np.nan
                quantiles[i, target, :] = np.nan
                continue
            total = weights[row, target, HOLT_EXPERT]
            point = total * (
                state[row, HOLT] + reach(horizon, kinds[target]) * state[row, HOLT + 1]
            )
            for a in range(len(GAINS)):
                weight = weights[row, target, a]
                total += weight
                point += weight * state[row, LEVELS + a]
            scale = learned[row, target, SCALE] * restless
            if seasons:
                more, weight = seasonal(
                    state, weights, short, season, calendar,
                    row, target, period, step, horizon, kinds[target],
                )  # fmt: skip
                point += more
                total += weight
                scale *= seasonal_unrest(swing, calendar, row, step + horizon)
            point /= total
            highest = -np.inf
            for q in range(len(QUANTILES)):
                highest = max(highest, point + learned[row, target, q] * scale)
                quantiles[i, target, q] = unroot(highest, form, upper)
            above = quantiles[i, target, 0] + learned[row, target, EXCESS]
            mean[i, target] = min(max(above, lower), upper)


@kernel
def _possible(value: float, form: int, upper: float) -> bool:
    return not math.isinf(value) and value <= upper and (form == PLAIN or value >= 0)


@kernel
def _carry(entry: Floats, kind: int, value: float, recent: Floats) -> float:
    """Carry a step into an open forecast; return what has come, as its target counts it."""
    entry[COUNT] += 1
    if kind == MEAN:
        entry[SUM] += value
        return entry[SUM] / entry[COUNT]
    # A mean that began before the forecast was made is not of its horizon. NaN stays.
    if entry[COUNT] >= len(recent) and not math.isnan(entry[SUM]):
        peak = recent.mean()
        if not peak <= entry[SUM]:
            entry[SUM] = peak
    return entry[SUM]


@kernel
def _open(
    state: Floats,
    marks: Ints,
    weights: Floats,
    learned: Floats,
    short: Floats,
    season: Floats,
    swing: Floats,
    calendar: Steps,
    entry: Floats,
    row: int,
    target: int,
    step: int,
    horizon: int,
    kind: int,
) -> None:
    """Keep what is foreseen now in an entry, to be judged when its time has come."""
    period = marks[row, PERIOD]
    foretell(state, short, season, calendar, row, period, step, horizon, kind, entry)
    entry[POINT] = mix(weights[row, target], entry)
    wide = unrest(state, row) * seasonal_unrest(swing, calendar, row, step + horizon)
    bounds(learned[row, target], entry[POINT], wide, entry[BOUNDS:SUM])
    entry[SUM] = -np.inf if kind == PEAK else 0.0
    entry[COUNT] = 0.0


@kernel
def _known_after(horizon: int, kind: int, peak_steps: int) -> int:
    """Return after how many steps a target is known: a peak needs one whole mean."""
    return max(horizon, peak_steps) if kind == PEAK else horizon


@kernel
def _turns(after: int, every: int, slots: int) -> int:
    """Return how many steps apart forecasts are opened, so that there is a slot for each."""
    return max(every, (after + slots - 1) // slots)
