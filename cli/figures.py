"""The arithmetic of views and reports: quantiles out of buckets, errors of forecasts, shares.

Pure. What cannot be said is None, never a guess: it is null in JSON and a dash on a screen.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb


def increase(before: float, now: float) -> float:
    """Return by how much a counter grew; one that fell was restarted and counts from zero."""
    return now - before if now >= before else now


def quantile_of_buckets(
    counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], q: float
) -> float | None:
    """Return the q-quantile of a histogram, linear within its bucket; None when it is empty.

    `counts` are (buckets,), not cumulated; `edges` (buckets - 1,) are the upper ones, the last
    bucket being open: a quantile in there is infinite, as no more is known.
    """
    total = counts.sum()
    if total <= 0:
        return None
    cumulated = np.cumsum(counts)
    at = int(np.searchsorted(cumulated, q * total, side="left"))
    if at >= len(edges):
        return float("inf")
    below = cumulated[at - 1] if at else 0.0
    lower = edges[at - 1] if at else 0.0
    part = (q * total - below) / counts[at]
    return float(lower + part * (edges[at] - lower))


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the smallest value that at least a part q of all do not exceed; None when empty.

    It takes no mean of two values, so that infinite ones (requests without an end) stay whole.
    """
    if not values:
        return None
    return float(np.quantile(np.asarray(values), q, method="inverted_cdf"))


def wape(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Return the weighted absolute percentage error of (foreseen, actual): sum |f - a| / sum a."""
    listed = list(pairs)
    actual = sum(a for _, a in listed)
    return sum(abs(f - a) for f, a in listed) / actual if actual > 0 else None


def at_lead_time(forecast: pb.LoadForecast) -> int | None:
    """Return the position of the horizon nearest the longest lead time; None without horizons."""
    if not forecast.horizon_ms:
        return None
    lead_ms = max(forecast.lead_time_ms.values(), default=max(forecast.horizon_ms))
    distances = [abs(horizon_ms - lead_ms) for horizon_ms in forecast.horizon_ms]
    return distances.index(min(distances))
