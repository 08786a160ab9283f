"""Crane's forecast of a load with days: its period, and the next one by filtered frequencies.

From gocrane/crane, pkg/prediction/dsp/{signal,peak,auto_correlation,estimators,prediction}.go and
config.go, and pkg/prediction/accuracy/accuracy.go. Values are means a minute. As there, a component
of low frequency and low amplitude stays while its mirror goes, which halves it.
"""

from typing import NamedTuple

import numpy as np

from bench.policies.autoscaler import Floats

DAY, WEEK = 24 * 60, 7 * 24 * 60  # minutes
PERMUTATIONS = 100
PEAK_RADIUS_MOST = 4 * 60
ITEMS_MOST = 100
HIGH_FREQUENCY = 1 / 60  # a minute: once an hour
VALUE_LEAST = 0.01
ACTUAL_LEAST = 1e-3
AMPLIFIED = 1.25


class Estimator(NamedTuple):
    """Which components of a spectrum are kept, and how much is added."""

    items_least: int
    amplitude_least: float
    margin: float

    def next_period(self, values: Floats, period: int) -> Floats:
        """Return the period that follows `values`: the last one, of what was kept of them."""
        count = len(values)
        spectrum = np.fft.fft(values)
        amplitude = np.abs(spectrum) / count
        largest = np.sort(amplitude[1 : count // 2])[::-1]
        cut = max(largest[min(ITEMS_MOST, len(largest)) - 1], self.amplitude_least)
        if len(largest) >= self.items_least:
            cut = min(cut, largest[self.items_least - 1])
        high = np.arange(count) / count > HIGH_FREQUENCY
        spectrum[(amplitude < cut) & high] = 0
        last = np.fft.ifft(spectrum).real[-period:]
        return np.asarray(np.where(last <= 0, VALUE_LEAST, last) * (1 + self.margin))


ESTIMATORS = tuple(
    Estimator(items, amplitude, margin)
    for items, amplitude in ((3, 1.0), (50, 0.05))
    for margin in (0.01, 0.10, 0.15, 0.20)
)


def period_of(values: Floats) -> int | None:
    """Return the period in minutes, over whole weeks if there are two, else whole days; or None.

    A frequency is a candidate where it has more power than all but one of 100 permutations have
    anywhere; it holds where the autocorrelation rises before it and falls after it.
    """
    unit = WEEK if len(values) >= 2 * WEEK else DAY
    values = values[len(values) % unit :]
    count = len(values)
    if count < 2 * DAY or np.ptp(values) == 0:
        return None
    rng = np.random.default_rng(0)
    half = slice(1, count // 2)
    powers = [np.abs(np.fft.rfft(rng.permutation(values)))[half].max() for _ in range(PERMUTATIONS)]
    threshold = np.sort(powers)[-2]
    power = np.abs(np.fft.rfft(values))
    hints = {count // k: k for k in range(count // 2 - 1, 1, -1) if power[k] > threshold}
    centred = (values - values.mean()) / values.std()
    correlation = np.fft.ifft(np.abs(np.fft.fft(centred)) ** 2).real / count
    peaks = [hint for hint in hints if _is_peak(correlation, hint)]
    best = max(peaks, key=lambda hint: correlation[hint], default=None)
    return best if best is not None and correlation[best] > 0 else None


def _is_peak(correlation: Floats, at: int) -> bool:
    radius = min(PEAK_RADIUS_MOST, at // 2)
    before = correlation[max(0, at - radius) : at + 1]
    after = correlation[at : at + radius + 1]
    if min(len(before), len(after)) < 2:
        return False
    rise, fall = (np.polyfit(np.arange(len(part)), part, 1)[0] for part in (before, after))
    return bool(rise > 0 > fall)


def forecast(values: Floats, period: int) -> Floats:
    """Return the next period, by the estimator that would have foreseen the last one best."""
    values = values[len(values) % period :]
    if len(values) < 2 * period:
        return np.zeros(0)
    past, actual = values[:-period], values[-period:]
    best = min(ESTIMATORS, key=lambda e: error_of(actual, e.next_period(past, period)))
    return best.next_period(values, period)


def error_of(actual: Floats, foreseen: Floats) -> float:
    """Return the mean relative error, what was too low made larger; absolute near zero."""
    if (actual < ACTUAL_LEAST).any():
        return float(np.abs(actual - foreseen).mean())
    share = (foreseen - actual) / actual
    low = share < 0
    share[low] = -np.log(1 + share[low]) / np.log(AMPLIFIED)
    return float(share.mean())
