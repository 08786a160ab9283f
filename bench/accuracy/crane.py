"""Crane's DSP: the last period of a series, cleaned by its spectrum, is what will come again.

Source: gocrane/crane, `pkg/prediction/dsp`: 15 days of history at most, two at least, refitted each
12 hours. The period is the day or the week, if it stands out of the spectrum of shuffled histories
and is a peak of the autocorrelation; without one there is no forecast, and its autoscaler works on
what it sees: here the last value. Of eight filters of the spectrum the one is taken that foretells
the last period best from those before.
"""

import time
from collections.abc import Sequence

import numpy as np

from bench.accuracy.online import Made, with_record
from bench.accuracy.series import Floats, Series, filled

DAY_S, WEEK_S = 86_400.0, 604_800.0
HISTORY_S, LEAST_S, REFIT_S = 15 * DAY_S, 2 * DAY_S, DAY_S / 2
SHUFFLES = 100
FASTEST_S = 3600.0  # what swings faster is left out
AMPLITUDES = ((3, 1.0), (50, 0.05))  # components kept at least; least amplitude of others
MARGINS = (0.01, 0.10, 0.15, 0.20)
FLOOR = 0.01


def crane_dsp(series: Series, horizons: Sequence[int]) -> Made:
    """Foresee as Crane, after each step."""
    values = filled(series.values)
    began = time.perf_counter()
    points = len(values)
    point = np.repeat(values[:, None], len(horizons), axis=1)
    each = max(1, round(REFIT_S / series.step_s))
    history = round(HISTORY_S / series.step_s)
    rng = np.random.default_rng(0)
    for start in range(round(LEAST_S / series.step_s), points, each):
        cycle = fit(values[max(0, start - history) : start], series.step_s, rng)
        if cycle is None:
            continue
        steps = np.arange(start, min(points, start + each))
        for place, horizon in enumerate(horizons):
            point[steps, place] = cycle[(steps + horizon - start) % len(cycle)]
    return with_record(values, point, horizons, began)


def fit(past: Floats, step_s: float, rng: np.random.Generator) -> Floats | None:
    """Return the period foreseen, from the step after `past` on, or None where there is none."""
    period = _period(past, step_s, rng)
    if period == 0:
        return None
    whole = past[len(past) % period :]
    before, last = whole[:-period], whole[-period:]
    best, least = None, np.inf
    for kept, amplitude in AMPLITUDES:
        for margin in MARGINS:
            error = _error(last, _cycle(before, period, step_s, kept, amplitude, margin))
            if error < least:
                best, least = (kept, amplitude, margin), error
    assert best is not None
    return _cycle(whole, period, step_s, *best)


def _period(past: Floats, step_s: float, rng: np.random.Generator) -> int:
    flat = past - past.mean()
    if not flat.any():
        return 0
    power = np.abs(np.fft.rfft(flat)) ** 2
    shuffled = [
        np.max(np.abs(np.fft.rfft(rng.permutation(flat)))[1:] ** 2) for _ in range(SHUFFLES)
    ]
    threshold = np.quantile(shuffled, 0.99)
    n = len(flat)
    spectrum = np.fft.rfft(flat, 2 * n)
    r = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
    for seconds in (WEEK_S, DAY_S):
        period = round(seconds / step_s)
        if period < 2 or n < 2 * period or power[round(n / period)] <= threshold:
            continue
        radius = max(1, min(round(4 * 3600 / step_s), period // 2))
        near = r[period - radius : min(n, period + radius + 1)]
        if 0 < int(np.argmax(near)) < len(near) - 1:
            return period
    return 0


def _cycle(
    past: Floats, period: int, step_s: float, kept: int, amplitude: float, margin: float
) -> Floats:
    n = len(past)
    spectrum = np.fft.rfft(past)
    size = np.abs(spectrum) / n
    size[np.fft.rfftfreq(n, step_s) > 1 / FASTEST_S] = 0.0
    cut = min(amplitude, np.sort(size)[-min(kept, len(size))])
    cleaned = np.fft.irfft(np.where(size >= cut, spectrum, 0), n)
    cycle: Floats = np.maximum(cleaned[-period:] * (1 + margin), FLOOR)
    return cycle


def _error(actual: Floats, foreseen: Floats) -> float:
    """Return the mean error in shares of what came; what was foreseen too low costs more."""
    if (actual < 1e-3).any():
        return float(np.mean(np.abs(actual - foreseen)))
    share = (actual - foreseen) / actual
    cost = np.where(share > 0, -np.log1p(-np.minimum(share, 0.999)) / np.log(1.25), -share)
    return float(np.mean(cost))
