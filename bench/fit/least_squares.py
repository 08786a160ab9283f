"""Least squares with coefficients that cannot be negative, over relative errors."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """What was timed. Arrays are (rows,), `terms` (rows, coefficients)."""

    terms: Floats
    times: Floats
    batch: npt.NDArray[np.int64]  # the batch size of each row
    known: Floats | float = 0.0  # a part of the times that other measurements explain

    def rows(self, chosen: npt.NDArray[np.bool_]) -> "Measured":
        """Return some of the rows."""
        known = self.known[chosen] if isinstance(self.known, np.ndarray) else self.known
        return Measured(self.terms[chosen], self.times[chosen], self.batch[chosen], known)


def fit(measured: Measured) -> Floats:
    """Return x >= 0 with the least sum of ((terms @ x + known) / times - 1)^2.

    Relative, so that a batch of one counts as much as one of 64. Few coefficients: the best
    solution is found exactly, by trying every set of those that are not 0.
    """
    scaled = measured.terms / measured.times[:, None]
    target = 1 - measured.known / measured.times
    best, least = np.zeros(scaled.shape[1]), float((target**2).sum())
    for count in range(1, scaled.shape[1] + 1):
        for chosen in combinations(range(scaled.shape[1]), count):
            x = np.linalg.lstsq(scaled[:, chosen], target, rcond=None)[0]
            error = float(((scaled[:, chosen] @ x - target) ** 2).sum())
            if (x >= 0).all() and error < least:
                best, least = np.zeros(scaled.shape[1]), error
                best[list(chosen)] = x
    return best


def errors(measured: Measured, x: Floats) -> Floats:
    """Absolute relative error of each row."""
    result: Floats = np.abs((measured.terms @ x + measured.known) / measured.times - 1)
    return result


def errors_left_out(measured: Measured) -> Floats:
    """Error of each row by a fit that saw none of its batch size; NaN for the two at the ends.

    A left-out batch size is interpolated, as in use: the smallest and the largest are always seen.
    """
    result = np.full(len(measured.times), np.nan)
    for size in np.unique(measured.batch)[1:-1]:
        out = measured.batch == size
        result[out] = errors(measured.rows(out), fit(measured.rows(~out)))
    return result


def percent(values: Floats) -> float:
    """Return the median of errors in percent, as it is written."""
    return round(100 * float(np.median(values)), 1)


def significant(value: float) -> float:
    """Round to the four digits that a measurement has at most."""
    return float(f"{value:.4g}")


def error_report(measured: Measured, x: Floats) -> dict[str, object]:
    """Return the errors that stand beside a fit in `laws.yaml`."""
    left_out = errors_left_out(measured)
    known = ~np.isnan(left_out)
    return {
        "in_sample": percent(errors(measured, x)),
        "left_out": percent(left_out[known]),
        "batch_sizes_left_out": sorted({int(size) for size in measured.batch[known]}),
    }
