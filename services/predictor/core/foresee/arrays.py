"""The arrays of a bank, where each number stands in them, and what its rows are asked.

A row is one series. Its methods, here called experts, all live on a root scale (`roots.py`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Steps = npt.NDArray[np.int64]

# Of `Bank.state`: the experts' own memory.
LEVELS = 0  # of the EWMAs, by GAINS; the first is the last value
HOLT = 4  # level, trend a step
DEVIATION = 6  # from each season's table, of the last value and of a slow EWMA: two a table
SPREAD = 12  # mean distance of one value from the one before
BASE = 13  # the level before a jump that may be a change point
UPPER = 14  # what the series cannot exceed, in its own unit
UNREST = 15  # how far off forecasts were of late, in their mean distances
STATE = 16

# Of `Bank.marks`.
SEEN = 0  # values so far, missing ones not counted
PERIOD = 1  # steps of the short season found in the window; 0: none
RUN = 2  # steps since the jump; its sign is the jump's
FORM = 3  # of the root scale, see `roots.py`
MARKS = 4

PARTS = 24  # of the first season, each with its own uncertainty
GAINS = np.array([1.0, 0.5, 0.1, 0.01])
QUANTILES = np.array([0.5, 0.8, 0.9, 0.95, 0.99, 0.995])
TABLES = 3  # the short season, and two of the calendar
# Experts: the levels, Holt, and for each table its season above the last and the slow deviation.
HOLT_EXPERT = 4
TABLE_EXPERT = 5
EXPERTS = TABLE_EXPERT + 2 * TABLES

# Of `Bank.learned`, for each target: six offsets of the quantiles from the mixture, in scales, and
SCALE = 6  # mean distance of what came from the mixture
EXCESS = 7  # mean of what came above the median, in the series' own unit
LEARNED = 8

# Of `Bank.pending`, for each open forecast: what each expert foretold, and
POINT = EXPERTS  # the mixture
BOUNDS = EXPERTS + 1  # its six quantiles, on the root scale
SUM = BOUNDS + 6  # of what came since; of a peak the largest mean
COUNT = SUM + 1  # steps since
PENDING = COUNT + 1

# What a target asks of the steps to its horizon: the value there, the mean up to it, or the
# largest mean over `Design.peak_steps` within it.
AT, MEAN, PEAK = 0, 1, 2


class Bank(NamedTuple):
    """The state of all rows, and the design that they share. Updated in place."""

    state: Floats  # (rows, STATE)
    marks: Ints  # (rows, MARKS)
    weights: Floats  # of the experts, (rows, targets, EXPERTS)
    learned: Floats  # (rows, targets, LEARNED)
    steps: Ints  # the horizon of each target, (rows, targets); 0: not asked
    # When each open forecast is judged, (rows, targets, slots); negative: when the next is opened;
    # 0: not yet said.
    due: Steps
    pending: Floats  # (rows, targets, slots, PENDING)
    recent: Floats  # in the series' unit, (rows, peak_steps); by step modulo that, NaN: missing
    window: Floats  # on the root scale, (rows, window), likewise
    short: Floats  # the season found in the window, (rows, window // 2); NaN: unknown
    # Phase-major: the rows of one phase lie side by side, as all are at the same phase.
    season: Floats  # the tables of the calendar one below the other, (phases, rows)
    # How far off forecasts were in each part of the first season, in their mean distances:
    swing: Floats  # (PARTS or 0, rows)
    calendar: Steps  # period, steps a phase, first phase of each, (2, 3); a period of 0: none
    kinds: Ints  # AT, MEAN or PEAK, (targets,)
    every: Ints  # steps between forecasts that are judged, at least, (1,)
