"""A bank of series: one row each, updated together step by step, each with its own forecasts.

    bank = make(rows=2, design=Design(targets=(AT, MEAN)), upper=np.array([np.inf, 100.0]))
    set_horizons(bank, np.array([[1, 30], [1, 60]]))     # steps, by row and target
    refused = update(bank, values, step)                 # (rows,), NaN: missing
    foreseen = forecast(bank, step)                      # median and more: foreseen.quantiles

`step`, above 0, counts the grain since any fixed moment, the same for all rows of a call; seasons
of the calendar take their phase from it. A call may cover a run of rows (`first`), so that sources
with times of their own share a bank. Steps that never came are left out, or given as NaN.

All state is in plain arrays: the same calls on the same arrays give the same bytes. `take` keeps,
drops and reorders rows, `join` adds them. Nothing here reads a clock or grows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.predictor.core.foresee import kernels
from services.predictor.core.foresee.arrays import (
    EXPERTS,
    FORM,
    LEARNED,
    MARKS,
    PARTS,
    PENDING,
    QUANTILES,
    STATE,
    UNREST,
    UPPER,
    Bank,
    Floats,
)
from services.predictor.core.foresee.judging import NORMAL
from services.predictor.core.foresee.roots import PLAIN, ROOT

# What lies with the phase first, and what all rows share.
_PHASE_MAJOR = ("season", "swing")
_SHARED = ("calendar", "kinds", "every")


class Season(NamedTuple):
    """A season of the calendar: a table of period / width phases a row."""

    period: int  # steps
    width: int = 1  # steps a phase; divides the period


class Design(NamedTuple):
    """What all rows of a bank have in common. Counts are in steps."""

    targets: tuple[int, ...]  # AT, MEAN or PEAK each
    slots: int = 4  # forecasts open at a time, by target
    every: int = 1  # forecasts judged at most once in so many steps: many rows want this higher
    window: int = 0  # in which seasons are looked for; 0: not at all
    peak_steps: int = 1  # of the mean whose largest PEAK foresees
    seasons: tuple[Season, ...] = ()  # two at most


class Forecast(NamedTuple):
    """What is foreseen. Nothing leaves what the series can be; NaN where nothing is known."""

    mean: Floats  # (rows, targets)
    quantiles: Floats  # (rows, targets, QUANTILES), never falling along the last


def make(
    rows: int,
    design: Design,
    upper: npt.ArrayLike = np.inf,
    signed: npt.ArrayLike = False,
) -> Bank:
    """Return rows that have seen nothing, all horizons 1.

    Args:
        rows: how many.
        design: what they have in common.
        upper: what a series cannot exceed, (rows,) or one for all.
        signed: whether it can be negative; otherwise 0 bounds it, (rows,) or one for all.
    """
    assert len(design.seasons) <= 2
    assert all(s.period % s.width == 0 for s in design.seasons)
    targets = len(design.targets)
    calendar = np.zeros((2, 3), np.int64)
    phases = 0
    for place, season in enumerate(design.seasons):
        calendar[place] = (season.period, season.width, phases)
        phases += season.period // season.width
    bank = Bank(
        state=np.zeros((rows, STATE), np.float32),
        marks=np.zeros((rows, MARKS), np.int32),
        weights=np.full((rows, targets, EXPERTS), 1 / EXPERTS, np.float32),
        learned=np.zeros((rows, targets, LEARNED), np.float32),
        steps=np.ones((rows, targets), np.int32),
        due=np.zeros((rows, targets, design.slots), np.int64),
        pending=np.zeros((rows, targets, design.slots, PENDING), np.float32),
        recent=np.full((rows, design.peak_steps), np.nan, np.float32),
        window=np.full((rows, design.window), np.nan, np.float32),
        short=np.full((rows, design.window // 2), np.nan, np.float32),
        season=np.full((phases, rows), np.nan, np.float32),
        swing=np.ones((PARTS if design.seasons else 0, rows), np.float32),
        calendar=calendar,
        kinds=np.array(design.targets, np.int32),
        every=np.array([design.every], np.int32),
    )
    bank.state[:, UPPER] = upper
    bank.state[:, UNREST] = 1.0
    bank.marks[:, FORM] = np.where(signed, PLAIN, ROOT)
    bank.learned[:, :, : len(QUANTILES)] = NORMAL
    return bank


def set_horizons(bank: Bank, steps: npt.ArrayLike, first: int = 0) -> None:
    """Set the horizons in steps, (rows, targets); what a target learned at another is kept.

    Its open forecasts are dropped, as they were for another moment. 0: not asked, NaN foreseen.
    """
    steps = np.asarray(steps, np.int32)
    rows = slice(first, first + len(steps))
    bank.due[rows][bank.steps[rows] != steps] = 0
    bank.steps[rows] = steps


def update(bank: Bank, values: npt.NDArray[np.float64], step: int, first: int = 0) -> int:
    """Fold the values of one step into the rows from `first` on; return how many were refused.

    NaN: missing. Refused, and taken for missing: infinities, and what its row cannot be.
    """
    assert step > 0
    return int(kernels.update(bank, values, step, first))


def forecast(
    bank: Bank, step: int, first: int = 0, rows: int = -1, out: Forecast | None = None
) -> Forecast:
    """Return what is foreseen after `step`, the newest folded in, for `rows` from `first` on.

    `out` is written to and returned, where given.
    """
    if rows < 0:
        rows = len(bank.state) - first
    if out is None:
        shape = (rows, len(bank.kinds))
        out = Forecast(np.empty(shape, np.float32), np.empty((*shape, len(QUANTILES)), np.float32))
    kernels.forecast(bank, step, first, out.mean, out.quantiles)
    return out


def take(bank: Bank, rows: npt.NDArray[np.int64]) -> Bank:
    """Return a bank of these rows of another, in this order."""
    return Bank(
        **{
            name: part
            if name in _SHARED
            else np.ascontiguousarray(part[:, rows] if name in _PHASE_MAJOR else part[rows])
            for name, part in bank._asdict().items()
        }
    )


def join(bank: Bank, more: Bank) -> Bank:
    """Return the rows of both banks, which have one design."""
    assert all(np.array_equal(getattr(bank, name), getattr(more, name)) for name in _SHARED)
    return Bank(
        **{
            name: part
            if name in _SHARED
            else np.concatenate((part, getattr(more, name)), axis=1 if name in _PHASE_MAJOR else 0)
            for name, part in bank._asdict().items()
        }
    )
