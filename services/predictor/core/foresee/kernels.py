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
from services.predictor.core.foresee.experts import foreseen, foretell, learn
from services.predictor.core.foresee.jit import kernel
from services.predictor.core.foresee.judging import bounds, judge, learn_unrest, mix, unrest
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
    for i in range(len(values)):
        row = first + i
        form, upper = marks[row, FORM], state[row, UPPER]
        value = values[i]
        if not math.isnan(value) and not _possible(value, form, upper):
            refused += 1
            value = np.nan
        peak = _remember(recent, row, step, value)
        for target in range(len(kinds)):
            for slot in range(due.shape[2]):
                then = due[row, target, slot]
                if then < step or (kinds[target] == AT and then > step):
                    continue
                entry = pending[row, target, slot]
                actual = _carry(entry, kinds[target], value, peak, recent.shape[1])
                if then == step:
                    due[row, target, slot] = -1
                    reach = _reach(steps[row, target], kinds[target], recent.shape[1])
                    whole = kinds[target] == AT or entry[COUNT] == reach
                    if whole and not math.isnan(actual):
                        turns = _every(reach, every[0], due.shape[2])
                        judged = max(1, (marks[row, SEEN] + 1 - reach) // turns)
                        off = judge(
                            learned[row, target],
                            weights[row, target],
                            entry,
                            actual,
                            form,
                            upper,
                            judged,
                        )
                        learn_unrest(state, swing, calendar, row, target, step, off)
        z = np.nan
        if not math.isnan(value):
            z = root(value, form)
            learn(state, marks, short, season, calendar, row, step, z)
        if window.shape[1] > 0:
            look_for_season(marks, window, short, row, step, z)
        if marks[row, SEEN] > 0:
            _open(
                state, marks, weights, learned, steps, due, pending,
                short, season, swing, calendar, kinds, every[0], recent.shape[1], row, step,
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
        for target in range(mean.shape[1]):
            horizon = steps[row, target]
            if horizon == 0 or marks[row, SEEN] == 0:
                mean[i, target] = np.nan
                quantiles[i, target, :] = np.nan
                continue
            point = foreseen(
                state, weights, short, season, calendar,
                row, target, period, step, horizon, kinds[target],
            )  # fmt: skip
            scale = learned[row, target, SCALE]
            scale *= unrest(state, swing, calendar, row, step + horizon)
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
def _remember(recent: Floats, row: int, step: int, value: float) -> float:
    """Return the mean over the last steps of which PEAK is the largest; NaN if one is missing."""
    size = recent.shape[1]
    recent[row, step % size] = value
    total = 0.0
    for i in range(size):
        total += recent[row, i]
    return total / size


@kernel
def _carry(entry: Floats, kind: int, value: float, peak: float, whole: int) -> float:
    """Carry a step into an open forecast; return what has come, as its target counts it."""
    if kind == AT:
        return value
    entry[COUNT] += 1
    if kind == MEAN:
        entry[SUM] += value
        return entry[SUM] / entry[COUNT]
    # A mean that began before the forecast was made is not of its horizon. NaN stays.
    if entry[COUNT] >= whole and not math.isnan(entry[SUM]) and not peak <= entry[SUM]:
        entry[SUM] = peak
    return entry[SUM]


@kernel
def _open(
    state: Floats,
    marks: Ints,
    weights: Floats,
    learned: Floats,
    steps: Ints,
    due: Steps,
    pending: Floats,
    short: Floats,
    season: Floats,
    swing: Floats,
    calendar: Steps,
    kinds: Ints,
    every: int,
    peak_steps: int,
    row: int,
    step: int,
) -> None:
    """Keep what is foreseen now, to be judged, where its turn has come and a slot is free."""
    slots = due.shape[2]
    for target in range(len(kinds)):
        horizon, kind = steps[row, target], kinds[target]
        if horizon == 0:
            continue
        reach = _reach(horizon, kind, peak_steps)
        # By row, so that not all have their turn at once.
        if (step + row) % _every(reach, every, slots) != 0:
            continue
        for slot in range(slots):
            if due[row, target, slot] <= step:
                due[row, target, slot] = step + reach
                entry = pending[row, target, slot]
                period = marks[row, PERIOD]
                foretell(state, short, season, calendar, row, period, step, horizon, kind, entry)
                entry[POINT] = mix(weights[row, target], entry)
                wide = unrest(state, swing, calendar, row, step + horizon)
                bounds(learned[row, target], entry[POINT], wide, entry[BOUNDS:SUM])
                entry[SUM] = -np.inf if kind == PEAK else 0.0
                entry[COUNT] = 0.0
                break


@kernel
def _reach(horizon: int, kind: int, peak_steps: int) -> int:
    """Return after how many steps a target is known: a peak needs one whole mean."""
    return max(horizon, peak_steps) if kind == PEAK else horizon


@kernel
def _every(reach: int, every: int, slots: int) -> int:
    """Return how many steps apart forecasts are opened, so that there is a slot for each."""
    return max(every, (reach + slots - 1) // slots)
