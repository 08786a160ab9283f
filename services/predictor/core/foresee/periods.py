"""Finds the season of a series, seconds to minutes, by its window's autocorrelation."""

import numpy as np
import numpy.typing as npt

from services.predictor.core.foresee.arrays import PERIOD, Floats, Ints
from services.predictor.core.foresee.jit import kernel

CLEAR = 0.3  # autocorrelation of a season; of white noise 300 values long it is below 0.17
# A multiple of the period correlates as well; the shortest that comes this near is the period.
NEAR = 0.9


@kernel
def look_for_season(
    marks: Ints, window: Floats, short: Floats, row: int, step: int, z: float
) -> None:
    """Keep a value in the row's window, and twice a window look for a season in it.

    A season found begins with the window's mean cycle; one that is no longer found ends.
    """
    size = window.shape[1]
    window[row, step % size] = z
    if (step + row) % (size // 2) != 0:
        return
    series = np.empty(size)
    for i in range(size):
        series[i] = window[row, (step + 1 + i) % size]
    period = find_period(series)
    if period == marks[row, PERIOD]:
        return
    marks[row, PERIOD] = period
    if period > 0:
        _begin(short[row], series, period, step + 1 - size)


@kernel
def find_period(series: npt.NDArray[np.float64]) -> int:
    """Return the lag, 2 to half the series, of the first clear peak of its autocorrelation; or 0.

    The straight line through the series is taken out first. NaN anywhere: 0.
    """
    n = len(series)
    middle = (n - 1) / 2.0
    mean, slope = 0.0, 0.0
    for i in range(n):
        mean += series[i] / n
        slope += (i - middle) * series[i]
    slope /= n * (n * n - 1.0) / 12.0
    flat = np.empty(n)
    total = 0.0
    for i in range(n):
        flat[i] = series[i] - mean - slope * (i - middle)
        total += flat[i] * flat[i]
    if not total > 1e-9 * n * (mean * mean + 1e-9):  # NaN or constant
        return 0
    half = n // 2
    r = np.empty(half + 1)
    for lag in range(1, half + 1):
        r[lag] = 0.0
        for i in range(n - lag):
            r[lag] += flat[i] * flat[i + lag]
        r[lag] *= n / ((n - lag) * total)
    best = 0.0
    for lag in range(2, half):
        if r[lag - 1] < r[lag] and r[lag] >= r[lag + 1]:
            best = max(best, r[lag])
    if best < CLEAR:
        return 0
    for lag in range(2, half):
        if r[lag - 1] < r[lag] and r[lag] >= r[lag + 1] and r[lag] >= NEAR * best:
            return lag
    return 0


@kernel
def _begin(short: Floats, series: npt.NDArray[np.float64], period: int, first_step: int) -> None:
    """Fill a table with the mean of the series at each phase."""
    for phase in range(period):
        total, count = 0.0, 0
        for i in range((phase - first_step) % period, len(series), period):
            total += series[i]
            count += 1
        short[phase] = total / count
