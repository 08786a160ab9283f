"""How wrong the forecasts turned out, and so how far above the mean a quantile lies.

Each second the outlook is marked; when a horizon is over, the forecast that the mark makes for it
is held against what came, as a difference of square roots, in units of the deviation to expect.
The quantile of a forecast made now is drawn from two sides: that of the newest residuals, the
model's own record, whatever its distribution (split conformal prediction; Vovk et al., 2005), and
that of a normal distribution, which is all there is before the record, and counts less and less as
the record grows. One record a model; its rings turn with those of `arrivals.py`.
"""

import math
from statistics import NormalDist

import numpy as np

from services.predictor.core import quality
from services.predictor.core.arrivals import WINDOW_S, Outlook, mean_of_last, mean_rps
from services.predictor.core.columns import Floats
from services.predictor.core.horizons import (
    FIVE,
    FIXED_S,
    HORIZONS,
    LEAD,
    PEAK,
    PEAK_S,
    SECOND,
    TEN,
    TICK,
    horizon_s,
    width_s,
)
from services.predictor.core.jit import Row, Table, entry, kernel, record

QUANTILES = np.array((0.5, 0.8, 0.9, 0.95, 0.99, 0.995))
# Of these, the ones that people are shown, and that are counted as having held or not.
BAND = (0.5, 0.95, 0.99)
_BAND_AT = np.searchsorted(QUANTILES, BAND)
_P95 = BAND.index(0.95)
_P95_AT = int(_BAND_AT[_P95])
# Of the largest of as many standard normal variables as a lead time of s seconds has disjoint
# windows of 10 s, (s, quantiles): all k are below x with chance F(x)^k. One window at least.
NORMAL = np.array(
    [
        [NormalDist().inv_cdf(p ** (PEAK_S / max(s, PEAK_S))) for p in QUANTILES.tolist()]
        for s in range(WINDOW_S)
    ]
)
CAUTION = 1.4  # a load wanders too: as much variance again as its seconds show; at first
# Later as much as lets a p95 hold in 95 %, learned slowly: forecasts that overlap tell the same.
CAUTION_GAIN, CAUTION_MIN, CAUTION_MAX = 0.001, 1.0, 3.0

KEPT = 60  # residuals of each, one a second: what a burst adds is forgotten a minute later
# So many would count alone. Windows of h seconds that end a second apart overlap: h of them hold
# about as much as one.
ENOUGH, ENOUGH_WINDOWS = 60, 10

RESIDUALS = record(
    {
        # What was foreseen at the end of each second: the means, and the band of the lead time.
        "marks": ("f8", (WINDOW_S, HORIZONS)),
        "bands": ("f8", (WINDOW_S, len(BAND))),
        "ended": ("f8", (HORIZONS, KEPT)),  # deviations above the mean, a ring; NaN: not known
        "ordered": ("f8", (HORIZONS, KEPT)),  # the same, rising, NaN last
        "newest": "i8",  # place of the newest in `ended`
        "caution": ("f8", HORIZONS),
        "margin": ("f8", (HORIZONS, len(QUANTILES))),  # deviations from the mean to each quantile
        # At the lead time, of all forecasts so far: how many were judged by their band, how often
        # what came lay at or below each quantile, and the sums of |actual - mean| and of actual,
        # whose ratio is the WAPE.
        "judged": "f8",
        "covered": ("f8", len(BAND)),
        "error": "f8",
        "actual": "f8",
        # The forecast that ended last, and what came; NaN: none yet.
        "due": ("f8", len(BAND)),
        "came": "f8",
        **quality.FIELDS,
    }
)


def no_record(models: int) -> Table:
    """Return the state of models never seen."""
    state = np.zeros(models, RESIDUALS)
    for field in ("marks", "bands", "ended", "ordered", "due", "came"):
        state[field] = np.nan
    state["caution"] = CAUTION
    state["margin"] = CAUTION * NORMAL[0]
    return state


@entry
def close_second(state: Row, after: Row, early: float, now: Outlook, lead_s: float) -> None:
    """Judge what ended with this second, then mark what is foreseen at its end.

    Args:
        state: the record, changed in place.
        after: the arrivals with this second in `counts`.
        early: arrivals in the first 200 ms of this second.
        now: the outlook at its end.
        lead_s: whole seconds of the lead time; NaN where not known.
    """
    state.newest = (state.newest + 1) % KEPT
    quality.fade(state)
    for horizon in range(HORIZONS):
        over_s = horizon_s(horizon, lead_s)
        actual, mean = math.nan, math.nan
        if not math.isnan(over_s):
            actual = actual_rps(after, early, horizon, math.ceil(over_s))
            # Where the lead time has changed since, this was for one some seconds off.
            mean = state.marks[after.newest - math.ceil(over_s), horizon]
        width = width_s(horizon, over_s)
        # As dispersed as is known by now: what nobody knew then would count as very unlikely.
        above = _root(actual, width) - _root(mean, width)
        residual = above / _deviation(now, width)
        replace(state.ordered[horizon], state.ended[horizon, state.newest], residual)
        state.ended[horizon, state.newest] = residual
        _learn_caution(state, horizon, lead_s)
        if horizon == LEAD and not math.isnan(actual - mean):
            _judge(state, state.bands[after.newest - int(over_s)], actual, mean)
    set_margins(state, lead_s)
    # Before its first second with an arrival, a model foresees nothing that could be judged. Each
    # quantile is made now and judged when its time has come, not made again by hindsight.
    unknown = math.isnan(now.points[SECOND])
    for horizon in range(HORIZONS):
        mean = mean_rps(now, horizon, horizon_s(horizon, lead_s))
        state.marks[after.newest, horizon] = math.nan if unknown else mean
    quantiles = np.empty(len(QUANTILES))
    foresee_one(state, now, LEAD, lead_s, quantiles)
    for i, q in enumerate(_BAND_AT):
        state.bands[after.newest, i] = math.nan if unknown else quantiles[q]


@kernel
def unmark(state: Row, after: Row) -> None:
    """Drop what was marked last: another forecast than this was published, so it is not judged."""
    state.marks[after.newest] = math.nan
    state.bands[after.newest] = math.nan


@entry
def skip_gap(state: Row) -> None:
    """Drop the open forecasts: what came in a gap is only known in sum."""
    state.marks[:] = math.nan
    state.bands[:] = math.nan


@entry
def foresee(
    state: Row, now: Outlook, lead_s: float, mean: Floats, quantiles: Floats, peaks: Floats
) -> None:
    """Write what is foreseen at TICK, SECOND, FIVE and LEAD, in 1/s.

    These are the mean, (4,), its quantiles and those of the largest 10 s mean, (4, quantiles) each;
    quantiles rise and are never negative. Over 10 s or less the peak is the mean over 10 s. The
    last of `mean` and of `quantiles` is NaN where the lead time is not known.
    """
    for row, horizon in enumerate((TICK, SECOND, FIVE, LEAD)):
        mean[row] = foresee_one(state, now, horizon, lead_s, quantiles[row])
        if row < 3 or not lead_s > PEAK_S:
            foresee_one(state, now, TEN, lead_s, peaks[row])
        else:
            foresee_one(state, now, PEAK, lead_s, peaks[row])
            for q in range(len(QUANTILES)):
                peaks[row, q] = max(peaks[row, q], quantiles[row, q])


@entry
def foresee_one(state: Row, now: Outlook, horizon: int, lead_s: float, quantiles: Floats) -> float:
    """Write the quantiles of the mean rate over a kept horizon, in 1/s, and return the mean."""
    over_s = horizon_s(horizon, lead_s)
    width = width_s(horizon, over_s)
    mean = mean_rps(now, horizon, over_s)
    root, deviation = _root(mean, width), _deviation(now, width)
    for q in range(len(QUANTILES)):
        quantiles[q] = _rate(root + state.margin[horizon, q] * deviation, width)
    return mean


@entry
def actual_rps(after: Row, early: float, horizon: int, seconds: int) -> float:
    """Return the rate that came over the last `seconds`, a kept horizon that ends now.

    NaN where a second of it is not known.
    """
    whole = mean_of_last(after, seconds)
    if horizon == TICK:
        return math.nan if math.isnan(whole) else early / FIXED_S[TICK]
    if horizon != PEAK or math.isnan(whole):
        return whole
    # The rate over the 10 s from each second on: the largest of those within the lead time.
    largest = ten = 0.0
    for back in range(seconds):
        ten += after.counts[after.newest - back]
        if back >= PEAK_S:
            ten -= after.counts[after.newest - back + PEAK_S]
        if back >= PEAK_S - 1:
            largest = max(largest, ten / PEAK_S)
    return largest


@entry
def set_margins(state: Row, lead_s: float) -> None:
    """Work out the deviations from the mean to each quantile, from the record as it stands."""
    lead_s = 0.0 if math.isnan(lead_s) else lead_s
    for horizon in range(HORIZONS):
        ordered = state.ordered[horizon]
        n = KEPT
        while n > 0 and math.isnan(ordered[n - 1]):
            n -= 1
        enough = max(float(ENOUGH), ENOUGH_WINDOWS * horizon_s(horizon, lead_s))
        part = min(n / enough, 1.0)
        normal = NORMAL[int(lead_s) if horizon == PEAK else 0]
        for q in range(len(QUANTILES)):
            cautious = state.caution[horizon] * normal[q]
            # The conformal rank: of n + 1 exchangeable residuals, the next is below it with
            # chance p.
            rank = math.ceil((n + 1) * QUANTILES[q] - 1e-9)
            measured = ordered[min(rank, n) - 1] if n > 0 else 0.0
            margin = part * measured + (1 - part) * cautious
            # The largest residual is no bound for what the record is too short to hold.
            state.margin[horizon, q] = max(margin, cautious) if rank > n else margin


@entry
def replace(ordered: Floats, old: float, new: float) -> None:
    """Take one value out of a rising row, NaN last, and put another in.

    Sorting the six of a model anew would be most of what a second of it takes.
    """
    place, last = 0, len(ordered) - 1
    if math.isnan(old):
        place = last
    else:
        while ordered[place] != old:
            place += 1
    while place < last and (math.isnan(new) or ordered[place + 1] < new):
        ordered[place] = ordered[place + 1]
        place += 1
    while place > 0 and not (math.isnan(new) or ordered[place - 1] <= new):
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = new


@kernel
def _learn_caution(state: Row, horizon: int, lead_s: float) -> None:
    """Move the caution up where the newest residual lay above its p95, a little down elsewhere."""
    newest = state.ended[horizon, state.newest]
    if math.isnan(newest):
        return
    bound = state.caution[horizon] * NORMAL[int(lead_s) if horizon == PEAK else 0][_P95_AT]
    moved = state.caution[horizon] + CAUTION_GAIN * (int(newest > bound) - (1 - BAND[_P95]))
    state.caution[horizon] = min(max(moved, CAUTION_MIN), CAUTION_MAX)


@kernel
def _judge(state: Row, band: Floats, came: float, mean: float) -> None:
    state.judged += int(not math.isnan(band[0]))
    for i in range(len(band)):
        state.covered[i] += int(came <= band[i])
        state.due[i] = band[i]
    quality.judge(state, band[_P95], came, mean)
    state.error += abs(came - mean)
    state.actual += came
    state.came = came


@kernel
def _root(rate_rps: float, width_s: float) -> float:
    """Return the square root of a mean rate over `width_s`, and of 3/8 of an arrival more.

    Its deviation hardly depends on the rate (Anscombe, 1948): a forecast of almost nothing that
    turned out wrong does not make those of much uncertain by as many times as it was wrong.
    """
    return math.sqrt(rate_rps + 0.375 / width_s)


@kernel
def _rate(root: float, width_s: float) -> float:
    """Undo `_root`; what lies below the root of no arrival is none."""
    rate = root * root - 0.375 / width_s
    return 0.0 if root < 0 or rate < 0 else rate  # NaN stays


@kernel
def _deviation(seen: Outlook, width_s: float) -> float:
    """Return the standard deviation to expect of the root of a mean rate over `width_s`.

    The rate's variance is dispersion x rate / seconds, both for the window and for what the level
    is worth. The root's slope is 1 / (2 root), so its variance is that over 4 x rate.
    """
    return math.sqrt(seen.dispersion * (1 / width_s + 1 / seen.worth_s)) / 2
