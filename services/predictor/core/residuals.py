"""How wrong the forecasts turned out, and so how far above the mean a quantile lies.

Each second the outlook is marked; when a horizon is over, the forecast that the mark makes for it
is held against what came, in units of the deviation expected then. Quantiles of the newest such
residuals are those of the forecasts that are made now: calibrated by the model's own record,
whatever the distribution (split conformal prediction; Vovk et al., 2005). Before there is a record,
the bound is cautious: normal, at a dispersion of at least Poisson's.
"""

from typing import NamedTuple

import numpy as np

from services.predictor.core import arrivals
from services.predictor.core.arrivals import WINDOW_S, Arrivals, Outlook
from services.predictor.core.columns import Floats, Ints

QUANTILES = np.array((0.5, 0.8, 0.9, 0.95, 0.99, 0.995))
NORMAL = np.array((0.0, 0.8416, 1.2816, 1.6449, 2.3263, 2.5758))  # of the standard normal

# Horizons whose record is kept. PEAK is the largest 10 s mean within the lead time.
TICK, SECOND, FIVE, TEN, LEAD, PEAK = range(6)
FIXED_S = np.array((0.2, 1.0, 5.0, 10.0))
KEPT = 300  # residuals of each
# Windows of h seconds that end a second apart overlap: h of them hold about as much as one.
ENOUGH, ENOUGH_WINDOWS = 60, 10
LEAD_S_MAX = WINDOW_S - 5
PEAK_S = 10


class Residuals(NamedTuple):
    """What is remembered of past forecasts, and how they ended."""

    marks: Floats  # Outlook at the end of each second, (models, 4, WINDOW_S), newest last
    ended: Floats  # (actual - mean) / deviation, (models, 6, KEPT), newest last; NaN: none
    margin: Floats  # deviations from the mean to each quantile, (models, 6, quantiles)
    error: Floats  # sum of |actual - mean| at the lead time, (models,)
    actual: Floats  # sum of actual: error / actual is the WAPE


def no_record(models: int) -> Residuals:
    """Return the state of models never seen."""
    none = np.zeros(models)
    ended = np.full((models, 6, KEPT), np.nan)
    marks = np.full((models, 4, WINDOW_S), np.nan)
    return Residuals(marks, ended, _margins(ended, none), none, none)


def close_second(
    record: Residuals, after: Arrivals, early: Floats, now: Outlook, lead_s: Floats
) -> Residuals:
    """Judge what ended with this second, then mark what is foreseen at its end.

    Args:
        record: the state.
        after: the arrivals with this second in `counts`.
        early: arrivals in the first 200 ms of this second, (models,).
        now: the outlook at its end.
        lead_s: whole seconds of the lead time, (models,); NaN where not known.
    """
    horizons_s = _horizons(lead_s)
    steps = np.nan_to_num(np.ceil(horizons_s), nan=1.0).astype(np.int64)
    at = np.take_along_axis(record.marks, WINDOW_S - steps[:, None, :], axis=2)
    then = Outlook(*(at[:, part, :] for part in range(4)))
    mean = arrivals.mean_rps(then, horizons_s)
    actual = _actuals(after.counts, early, steps)
    deviation = arrivals.deviation_rps(mean, then.dispersion, _width(horizons_s))
    ended = np.concatenate((record.ended[:, :, 1:], ((actual - mean) / deviation)[..., None]), 2)
    missed = np.abs(actual - mean)[:, LEAD]
    matured = ~np.isnan(missed)
    return Residuals(
        np.concatenate((record.marks[:, :, 1:], np.stack(now, axis=1)[..., None]), axis=2),
        ended,
        _margins(ended, lead_s),
        record.error + np.where(matured, missed, 0.0),
        record.actual + np.where(matured, actual[:, LEAD], 0.0),
    )


def foresee(record: Residuals, now: Outlook, lead_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean (models, 6), quantiles and their 10 s peaks (models, 6, quantiles), in 1/s.

    Quantiles never fall along their axis and are never negative. Over 10 s or less the peak is the
    mean over 10 s. Columns LEAD and PEAK are NaN where the lead time is not known.
    """
    horizons_s = _horizons(lead_s)
    columns = Outlook(*(part[:, None] for part in now))
    mean = arrivals.mean_rps(columns, horizons_s)
    deviation = arrivals.deviation_rps(mean, columns.dispersion, _width(horizons_s))
    quantiles = (mean[..., None] + record.margin * deviation[..., None]).clip(min=0)
    peaks = np.repeat(quantiles[:, TEN : TEN + 1, :], 6, axis=1)
    longer = (lead_s > PEAK_S)[:, None]
    largest = np.maximum(quantiles[:, PEAK], quantiles[:, LEAD])
    peaks[:, LEAD] = np.where(longer, largest, quantiles[:, TEN])
    return mean, quantiles, peaks


def _horizons(lead_s: Floats) -> Floats:
    """Return the seconds of each kept horizon, (models, 6)."""
    fixed = np.broadcast_to(FIXED_S, (len(lead_s), 4))
    return np.column_stack((fixed, lead_s, lead_s))


def _width(horizons_s: Floats) -> Floats:
    """Return the seconds over which each kept horizon takes its mean: 10 s for the peak."""
    width = horizons_s.copy()
    width[:, PEAK] = np.minimum(width[:, PEAK], PEAK_S)
    return width


def _actuals(counts: Floats, early: Floats, steps: Ints) -> Floats:
    """Return the rate that came over each kept horizon that ends now, (models, 6).

    NaN where a second of it is not known.
    """
    sums = np.column_stack((np.zeros(len(counts)), np.cumsum(np.nan_to_num(counts), axis=1)))
    unknown = np.column_stack((np.zeros(len(counts)), np.cumsum(np.isnan(counts), axis=1)))
    began = WINDOW_S - steps
    actual = (sums[:, -1:] - np.take_along_axis(sums, began, axis=1)) / steps
    actual[:, TICK] = early / FIXED_S[TICK]
    # The rate over the 10 s up to each second, and the largest of those within the lead time.
    over_ten = (sums[:, PEAK_S:] - sums[:, :-PEAK_S]) / PEAK_S
    ends = np.arange(PEAK_S, WINDOW_S + 1)
    within = ends[None, :] >= began[:, PEAK, None] + PEAK_S
    actual[:, PEAK] = np.where(within, over_ten, 0.0).max(axis=1)
    whole = unknown[:, -1:] == np.take_along_axis(unknown, began, axis=1)
    return np.where(whole, actual, np.nan)


def _margins(ended: Floats, lead_s: Floats) -> Floats:
    """Return the deviations from the mean to each quantile, (models, 6, quantiles)."""
    lead_s = np.nan_to_num(lead_s, nan=0.0)
    ordered = np.sort(ended, axis=2)  # NaN last
    n = (~np.isnan(ended)).sum(axis=2)[..., None]
    # The conformal rank: of n + 1 exchangeable residuals, the next is below it with chance p.
    rank = np.ceil((n + 1) * QUANTILES - 1e-9).astype(np.int64)
    measured = np.take_along_axis(ordered, (np.minimum(rank, n) - 1).clip(min=0), axis=2)
    # The largest of k disjoint windows, by the union bound: k exp(-x^2 / 2) = exp(-z^2 / 2).
    cautious = np.broadcast_to(NORMAL, measured.shape).copy()
    windows = (lead_s / PEAK_S).clip(min=1)
    cautious[:, PEAK] = np.sqrt(NORMAL**2 + 2 * np.log(windows)[:, None])
    enough = np.maximum(ENOUGH, ENOUGH_WINDOWS * np.nan_to_num(_horizons(lead_s)))[..., None]
    trusted = (n >= enough) & (rank <= n)
    return np.where(trusted, measured, np.fmax(measured, cautious))
