"""What the methods of `foresee` foretell of the arrivals of each model, learned second by second.

The methods live on the rate itself, not on its root: what is wanted is a mean, and the mean of
roots lies far below it where arrivals are bursty. Each horizon mixes them by weights of its own,
which learn from what came. How far above the mixture a quantile lies is the business of
`residuals.py`. One record a model.
"""

import math
from typing import NamedTuple

import numpy as np

from services.predictor.core.arrivals import LEVEL_WORTH_S, Points, mean_of_last, or_guess
from services.predictor.core.foresee import arrays
from services.predictor.core.foresee.arrays import (
    DEVIATION,
    EXPERTS,
    GAINS,
    HOLT,
    HOLT_EXPERT,
    LEVELS,
    MARKS,
    MEAN,
    PERIOD,
    POINT,
    SEEN,
    STATE,
    TABLE_EXPERT,
    TABLES,
)
from services.predictor.core.foresee.experts import foretell, learn, learn_seasons
from services.predictor.core.foresee.judging import SCALE_GAIN, mix, weigh
from services.predictor.core.foresee.periods import look_for_season
from services.predictor.core.horizons import HORIZONS, LEAD, PEAK, SECOND, TEN, TICK, horizon_s
from services.predictor.core.jit import Row, Table, entry, kernel, record

SEASON_WINDOW_S = 900  # seasons up to half of it are found
# Period, seconds a phase and first phase of the tables of the day and of the week.
DAY_PHASES, WEEK_PHASES = 720, 672
CALENDAR = np.array([[86_400, 120, 0], [604_800, 900, DAY_PHASES]])
TARGETS = LEAD - SECOND + 1  # the horizons that mix: SECOND, FIVE, TEN and LEAD
SLOTS = 4  # forecasts of each that are open at a time
BREAK_S = 10  # seconds whose mean, where the mixture cannot explain it, is the new level
SURPRISE = 3.0  # standard deviations
# Before anything is learned: EWMAs over ten and over a hundred seconds, and a little of the rest.
PRIOR = np.array([0.02, 0.05, 0.4, 0.4, 0.03, *[0.05] * (2 * TABLES)])

# Of the methods, what people are told apart, and the first expert of each.
NAMES = ("last value", "2 s", "20 s", "200 s", "trend", "season", "day", "week")
_FIRST = [*range(TABLE_EXPERT), *range(TABLE_EXPERT, EXPERTS, 2)]

METHODS = record(
    {
        # What each second touches lies together: with many models, memory is what takes time.
        "points": ("f8", HORIZONS),  # the mixture at each kept horizon, in 1/s; NaN: not known
        "state": ("f4", STATE),
        "marks": ("i4", MARKS),
        "weights": ("f4", (TARGETS, EXPERTS)),
        "scale": ("f4", TARGETS),  # mean distance of what came from the mixture
        "judged": ("i8", TARGETS),
        "pending": ("f4", (TARGETS, SLOTS, EXPERTS + 1)),  # NaN: none
        "lead_s": "f8",  # the lead time of those pending
        "turn": "i8",  # so that not all models look for a season in the same second
        "window": ("f4", SEASON_WINDOW_S),
        "short": ("f4", SEASON_WINDOW_S // 2),
        "season": ("f4", DAY_PHASES + WEEK_PHASES),
    }
)


class Bank(NamedTuple):
    """A record as `foresee` takes it, a bank of one row: made once a second, as that takes time."""

    state: arrays.Floats
    marks: arrays.Ints
    short: arrays.Floats
    season: arrays.Floats
    told: arrays.Floats  # scratch: what each expert foretells, and the mixture


def nothing_learned(models: int) -> Table:
    """Return the state of models never seen."""
    state = np.zeros(models, METHODS)
    for field in ("pending", "lead_s", "window", "short", "season", "points"):
        state[field] = np.nan
    state["weights"] = PRIOR
    state["turn"] = np.arange(models)
    return state


@entry
def close_second(state: Row, after: Row, second: int, lead_s: float) -> None:
    """Judge the forecasts that end with this second, learn from it, and foretell anew.

    Args:
        state: the record, changed in place.
        after: the arrivals with this second in `counts`.
        second: which it is, since 1970.
        lead_s: whole seconds of the lead time; NaN where not known.
    """
    if state.lead_s != lead_s:
        state.pending[LEAD - SECOND] = math.nan
        state.lead_s = lead_s
    for target in range(TARGETS):
        seconds = horizon_s(SECOND + target, lead_s)
        if not math.isnan(seconds):
            _judge(state, after, target, second - int(seconds), int(seconds))
    count = after.counts[after.newest]
    of, marks = state.state.reshape((1, -1)), state.marks.reshape((1, -1))
    short, season = state.short.reshape((1, -1)), state.season.reshape((-1, 1))
    if not math.isnan(count):
        learn(of, marks, 0, count)
        learn_seasons(of, marks, short, season, CALENDAR, 0, second, count)
    look_for_season(marks, state.window.reshape((1, -1)), short, 0, second, state.turn, count)
    if marks[0, SEEN] == 0:
        return
    bank = Bank(of, marks, short, season, np.empty(EXPERTS + 1, np.float32))
    _break(state, bank, after, second)
    _foretell(state, bank, second, lead_s)


def shares(state: Row) -> list[float]:
    """Return by what part each of NAMES carries the mean at the lead time; NaN: not known yet."""
    target = LEAD - SECOND
    known = ~np.isnan(state["pending"][target, :, :EXPERTS]).all(axis=0)
    weights = np.where(known, state["weights"][target], 0.0)
    parts: list[float] = (np.add.reduceat(weights, _FIRST) / (weights.sum() or math.nan)).tolist()
    return parts


@entry
def points(state: Row) -> Points:
    """Return what is foretold at each kept horizon, in 1/s; NaN: not known."""
    of = state.points
    return of[0], of[1], of[2], of[3], of[4], of[5]


@entry
def skip_gap(state: Row) -> None:
    """Drop the open forecasts: what came in a gap is only known in sum."""
    state.pending[:] = math.nan


@kernel
def _judge(state: Row, after: Row, target: int, made: int, seconds: int) -> None:
    """Move the weights of a target by the forecast that was made then, if one was kept."""
    turns = _turns(seconds)
    open_one = state.pending[target, made // turns % SLOTS]
    if made % turns != 0 or math.isnan(open_one[POINT]):
        return
    error = mean_of_last(after, seconds) - open_one[POINT]
    if math.isnan(error):
        return
    state.judged[target] += 1
    gain = max(SCALE_GAIN, 1.0 / state.judged[target])
    state.scale[target] += gain * (abs(error) - state.scale[target])
    if state.scale[target] > 0:
        weigh(state.weights[target], open_one, error / state.scale[target], state.scale[target])


@kernel
def _break(state: Row, bank: Bank, after: Row, second: int) -> None:
    """Set what is slow onto the mean of the last 10 s, where chance could hardly have made it.

    A burst is to be in the level within seconds; the methods' own test of a change of level, which
    serves any series, waits for one far beyond its noise to last.
    """
    recent = mean_of_last(after, BREAK_S)
    if math.isnan(recent):
        return
    told = bank.told
    _each(bank, second - BREAK_S, BREAK_S, MEAN)
    told[HOLT_EXPERT] = state.state[HOLT] - state.state[HOLT + 1] * (BREAK_S - 1) / 2
    expected = max(mix(state.weights[TEN - SECOND], told), 0.0)
    # One arrival more keeps the variance above zero where none has come.
    per_s = or_guess(after.dispersion) * (expected + 1 / BREAK_S)
    spread = math.sqrt(per_s * (1 / BREAK_S + 1 / LEVEL_WORTH_S))
    if abs(recent - expected) <= SURPRISE * spread:
        return
    for a in range(2, len(GAINS)):
        state.state[LEVELS + a] = recent
    for table in range(TABLES):
        last = DEVIATION + 2 * table
        apart = recent - (told[TABLE_EXPERT + 2 * table] - state.state[last])
        if not math.isnan(apart):
            state.state[last + 1] = apart


@kernel
def _foretell(state: Row, bank: Bank, second: int, lead_s: float) -> None:
    """Write the mixture at each kept horizon, and keep some to be judged."""
    told = bank.told
    for target in range(TARGETS):
        state.points[SECOND + target] = math.nan
        known_s = horizon_s(SECOND + target, lead_s)
        if math.isnan(known_s):
            continue
        seconds = int(known_s)
        _each(bank, second, seconds, MEAN)
        told[POINT] = mix(state.weights[target], told)
        state.points[SECOND + target] = max(told[POINT], 0.0)
        turns = _turns(seconds)
        if second % turns == 0:
            state.pending[target, second // turns % SLOTS] = told
    state.points[TICK] = state.points[SECOND]
    state.points[PEAK] = state.points[LEAD]
    if not math.isnan(lead_s) and state.marks[PERIOD] > 0:
        _each(bank, second, int(lead_s), arrays.PEAK)
        state.points[PEAK] = max(mix(state.weights[LEAD - SECOND], told), 0.0)


@kernel
def _each(bank: Bank, second: int, seconds: int, kind: int) -> None:
    of, short, season, period = bank.state, bank.short, bank.season, bank.marks[0, PERIOD]
    foretell(of, short, season, CALENDAR, 0, period, second, seconds, kind, bank.told)


@kernel
def _turns(seconds: int) -> int:
    """Return how many seconds apart forecasts are kept, so that there is a slot for each."""
    return (seconds + SLOTS - 1) // SLOTS
