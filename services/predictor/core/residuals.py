"""How wrong the forecasts turned out, and so how far above the mean a quantile lies.

Each second the outlook is marked; when a horizon is over, the forecast that the mark makes for it
is held against what came, as a difference of square roots, in units of the deviation to expect.
The quantile of a forecast made now is drawn from two sides: that of the newest residuals, the
model's own record, whatever its distribution (split conformal prediction; Vovk et al., 2005), and
that of a normal distribution, which is all there is before the record, and counts less and less as
the record grows.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from services.predictor.core import arrivals
from services.predictor.core.arrivals import WINDOW_S, Arrivals, Outlook
from services.predictor.core.columns import Floats, Ints

QUANTILES = np.array((0.5, 0.8, 0.9, 0.95, 0.99, 0.995))
# Of these, the ones that people are shown, and that are counted as having held or not.
BAND = (0.5, 0.95, 0.99)
_BAND_AT = np.searchsorted(QUANTILES, BAND)
PEAK_S = 10
# Of the largest of as many standard normal variables as a lead time of s seconds has disjoint
# windows of 10 s, (s, quantiles): all k are below x with chance F(x)^k. One window at least.
NORMAL = np.array(
    [
        [NormalDist().inv_cdf(p ** (PEAK_S / max(s, PEAK_S))) for p in QUANTILES.tolist()]
        for s in range(WINDOW_S)
    ]
)
CAUTION = 1.4  # a load wanders too: as much variance again as its seconds show

# Horizons whose record is kept. PEAK is the largest 10 s mean within the lead time.
TICK, SECOND, FIVE, TEN, LEAD, PEAK = range(6)
FIXED_S = np.array((0.2, 1.0, 5.0, 10.0))
KEPT = 60  # residuals of each, one a second: what a burst adds is forgotten a minute later
# So many would count alone. Windows of h seconds that end a second apart overlap: h of them hold
# about as much as one.
ENOUGH, ENOUGH_WINDOWS = 60, 10
LEAD_S_MAX = WINDOW_S - 5


class Residuals(NamedTuple):
    """What is remembered of past forecasts, and how they ended."""

    marks: Floats  # Outlook at the end of each second, (models, 5, WINDOW_S), newest last
    ended: Floats  # deviations above the mean, (models, 6, KEPT), newest last; NaN: not known
    margin: Floats  # deviations from the mean to each quantile, (models, 6, quantiles)
    bands: Floats  # made at the end of each second for the lead time, (models, BAND, WINDOW_S)
    # At the lead time, of all forecasts so far: how many were judged by their band, how often what
    # came lay at or below each quantile, and the sums of |actual - mean| and of actual, whose ratio
    # is the WAPE.
    judged: Floats  # (models,)
    covered: Floats  # (models, BAND)
    error: Floats  # (models,)
    actual: Floats  # (models,)
    # The forecast that ended last, and what came; NaN: none yet.
    due: Floats  # (models, BAND)
    came: Floats  # (models,)


def no_record(models: int) -> Residuals:
    """Return the state of models never seen."""
    none = np.zeros(models)
    ended = np.full((models, 6, KEPT), np.nan)
    marks = np.full((models, len(Outlook._fields), WINDOW_S), np.nan)
    return Residuals(
        marks,
        ended,
        _margins(ended, none),
        bands=np.full((models, len(BAND), WINDOW_S), np.nan),
        judged=none,
        covered=np.zeros((models, len(BAND))),
        error=none,
        actual=none,
        due=np.full((models, len(BAND)), np.nan),
        came=np.full(models, np.nan),
    )


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
    then = Outlook(*np.moveaxis(at, 1, 0))
    mean = arrivals.mean_rps(then, horizons_s)
    actual = _actuals(after.counts, early, steps)
    width_s = _width(horizons_s)
    # As dispersed as is known by now: what nobody knew then would count as very unlikely.
    deviation = _deviation(_as_columns(now), width_s)
    above = (_root(actual, width_s) - _root(mean, width_s)) / deviation
    ended = np.concatenate((record.ended[:, :, 1:], above[..., None]), axis=2)
    came = actual[:, LEAD]
    missed = np.abs(came - mean[:, LEAD])
    matured = ~np.isnan(missed)
    due = np.take_along_axis(record.bands, WINDOW_S - steps[:, LEAD, None, None], axis=2)[..., 0]
    # Before its first second with an arrival, a model foresees nothing that could be judged.
    mark = np.where(np.isnan(after.level_rps), np.nan, np.stack(now))
    closed = record._replace(
        marks=np.concatenate((record.marks[:, :, 1:], mark.T[..., None]), axis=2),
        ended=ended,
        margin=_margins(ended, lead_s),
        judged=record.judged + (matured & ~np.isnan(due[:, 0])),
        covered=record.covered + (matured[:, None] & (came[:, None] <= due)),
        error=record.error + np.where(matured, missed, 0.0),
        actual=record.actual + np.where(matured, came, 0.0),
        due=np.where(matured[:, None], due, record.due),
        came=np.where(matured, came, record.came),
    )
    # Each quantile is made now and judged when its time has come, not made again by hindsight.
    band = foresee(closed, now, lead_s)[1][:, LEAD, _BAND_AT]
    band = np.where(np.isnan(after.level_rps)[:, None], np.nan, band)
    return closed._replace(bands=np.concatenate((record.bands[:, :, 1:], band[..., None]), axis=2))


def skip_gap(record: Residuals) -> Residuals:
    """Return the record without its open forecasts: what came in a gap is only known in sum."""
    return record._replace(
        marks=np.full_like(record.marks, np.nan), bands=np.full_like(record.bands, np.nan)
    )


def foresee(record: Residuals, now: Outlook, lead_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean (models, 6), quantiles and their 10 s peaks (models, 6, quantiles), in 1/s.

    Quantiles never fall along their axis and are never negative. Over 10 s or less the peak is the
    mean over 10 s. Columns LEAD and PEAK are NaN where the lead time is not known.
    """
    horizons_s = _horizons(lead_s)
    columns = _as_columns(now)
    mean = arrivals.mean_rps(columns, horizons_s)
    width_s = _width(horizons_s)
    margin = record.margin * _deviation(columns, width_s)[..., None]
    quantiles = _rate(_root(mean, width_s)[..., None] + margin, width_s[..., None])
    peaks = np.repeat(quantiles[:, TEN : TEN + 1, :], 6, axis=1)
    longer = (lead_s > PEAK_S)[:, None]
    largest = np.maximum(quantiles[:, PEAK], quantiles[:, LEAD])
    peaks[:, LEAD] = np.where(longer, largest, quantiles[:, TEN])
    return mean, quantiles, peaks


def _as_columns(outlook: Outlook) -> Outlook:
    return Outlook(*(part[:, None] for part in outlook))


def _horizons(lead_s: Floats) -> Floats:
    """Return the seconds of each kept horizon, (models, 6)."""
    fixed = np.broadcast_to(FIXED_S, (len(lead_s), 4))
    return np.column_stack((fixed, lead_s, lead_s))


def _width(horizons_s: Floats) -> Floats:
    """Return the seconds over which each kept horizon takes its mean: 10 s for the peak."""
    width = horizons_s.copy()
    width[:, PEAK] = np.minimum(width[:, PEAK], PEAK_S)
    return width


def _root(rate_rps: Floats, width_s: Floats) -> Floats:
    """Return the square root of a mean rate over `width_s`, and of 3/8 of an arrival more.

    Its deviation hardly depends on the rate (Anscombe, 1948): a forecast of almost nothing that
    turned out wrong does not make those of much uncertain by as many times as it was wrong.
    """
    root: Floats = np.sqrt(rate_rps + 0.375 / width_s)
    return root


def _rate(root: Floats, width_s: Floats) -> Floats:
    """Undo `_root`; what lies below the root of no arrival is none."""
    rate: Floats = (root.clip(min=0) ** 2 - 0.375 / width_s).clip(min=0)
    return rate


def _deviation(seen: Outlook, width_s: Floats) -> Floats:
    """Return the standard deviation to expect of the root of a mean rate over `width_s`.

    The rate's variance is dispersion x rate / seconds, both for the window and for what the level
    is worth. The root's slope is 1 / (2 root), so its variance is that over 4 x rate.
    """
    deviation: Floats = np.sqrt(seen.dispersion * (1 / width_s + 1 / seen.worth_s)) / 2
    return deviation


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
    cautious = np.tile(CAUTION * NORMAL[0], (len(ended), 6, 1))
    cautious[:, PEAK] = CAUTION * NORMAL[lead_s.astype(np.int64)]
    ordered = np.sort(ended, axis=2)  # NaN last
    n = (~np.isnan(ended)).sum(axis=2)[..., None]
    # The conformal rank: of n + 1 exchangeable residuals, the next is below it with chance p.
    rank = np.ceil((n + 1) * QUANTILES - 1e-9).astype(np.int64)
    measured = np.take_along_axis(ordered, (np.minimum(rank, n) - 1).clip(min=0), axis=2)
    enough = np.maximum(ENOUGH, ENOUGH_WINDOWS * _horizons(lead_s))[..., None]
    part = np.minimum(n / enough, 1.0)
    margins: Floats = part * np.where(n > 0, measured, 0.0) + (1 - part) * cautious
    # The largest residual is no bound for what the record is too short to hold.
    np.maximum(margins, cautious, out=margins, where=rank > n)
    return margins
