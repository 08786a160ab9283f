"""How long a model takes to load on a device type: what nine loads in ten took at most.

A lead time that is too short misses an objective, one too long idles a GPU for some seconds; so the
mean of the load times is not what to plan with. Loads are rare, and a sample that comes each 100 ms
sees them one by one, so the newest are simply kept. Rows are (model, device type).
"""

import numpy as np

from services.predictor.core.columns import Floats

KEPT = 20
PERCENTILE = 0.9


def nothing_seen(pairs: int) -> Floats:
    """Return the state before the first load: the newest load times in ms, (pairs, KEPT)."""
    return np.full((pairs, KEPT), np.nan)


def add(newest_ms: Floats, grown: Floats) -> Floats:
    """Take in by how much loads and their milliseconds grew, (2, pairs); NaN: not known.

    Loads that ended between two samples count with their mean, each.
    """
    ended = np.nan_to_num(np.where(np.isnan(grown).any(axis=0), 0.0, grown[0])).astype(np.int64)
    pairs = np.flatnonzero(ended)
    if not pairs.size:
        return newest_ms
    after = newest_ms.copy()
    for pair in pairs:
        count = min(int(ended[pair]), KEPT)
        after[pair] = np.append(after[pair, count:], np.full(count, grown[1, pair] / ended[pair]))
    return after


def load_ms(newest_ms: Floats, prior_ms: Floats) -> Floats:
    """Return the 90th percentile of the load times seen, (pairs,).

    The registry's, `prior_ms`, counts as one load more; so it matters less and less. NaN where the
    registry does not say it and none was seen. Between two of them it is interpolated.
    """
    known = np.sort(np.column_stack((newest_ms, prior_ms)), axis=1)  # NaN last
    last = (~np.isnan(known)).sum(axis=1) - 1
    place = PERCENTILE * last.clip(min=0)
    low = np.floor(place).astype(np.int64)
    rows = np.arange(len(known))
    below, above = known[rows, low], known[rows, np.minimum(low + 1, last.clip(min=0))]
    percentile: Floats = below + (place - low) * (above - below)
    return percentile
