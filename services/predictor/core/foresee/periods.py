"""Finds the season of a series, seconds to minutes, by its window's autocorrelation."""

import numpy as np
import numpy.typing as npt

from services.predictor.core.foresee.arrays import PERIOD, Floats, Ints
from services.predictor.core.foresee.jit import kernel

CLEAR = 0.3  # autocorrelation of a season; of white noise 300 values long it is below 0.17
# A multiple of the period correlates as well; the shortest that comes this near is the period.
NEAR = 0.9
FLAT = 8  # the top of a peak is sought within so many parts of its period


@kernel
def look_for_season(
    marks: Ints, window: Floats, short: Floats, row: int, step: int, turn: int, z: float
) -> None:
    """Keep a value in the row's window, and twice a window, in its turn, look for a season in it.

    A season found begins with the window's mean cycle; one that is no longer found ends.
    """
    size = window.shape[1]
    window[row, step % size] = z
    if (step + turn) % (size // 2) != 0:
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
    best, trough = 0.0, 1.0
    for lag in range(1, half):
        trough = min(trough, r[lag])
        if _is_peak(r, lag, trough):
            best = max(best, r[lag])
    if best < CLEAR:
        return 0
    trough = 1.0
    for lag in range(1, half):
        trough = min(trough, r[lag])
        if _is_peak(r, lag, trough) and r[lag] >= NEAR * best:
            # Noise makes small peaks on the flat top of a long season's.
            return lag + int(np.argmax(r[lag : min(lag + lag // FLAT + 1, half)]))
    return 0


@kernel
def _is_peak(r: npt.NDArray[np.float64], lag: int, trough: float) -> bool:
    """Tell a season from what is merely slow: its autocorrelation has been low before."""
    return lag > 1 and r[lag - 1] < r[lag] and r[lag] >= r[lag + 1] and r[lag] - trough > CLEAR


@kernel
def _begin(short: Floats, series: npt.NDArray[np.float64], period: int, first_step: int) -> None:
    """Fill a table with the mean of the series at each phase."""
    for phase in range(period):
        total, count = 0.0, 0
        for i in range((phase - first_step) % period, len(series), period):
            total += series[i]
            count += 1
        short[phase] = total / count
