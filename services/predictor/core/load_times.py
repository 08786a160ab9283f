"""How long a model takes to load on a device type: what nine loads in ten took at most.

A lead time that is too short misses an objective, one too long idles a GPU for some seconds; so the
mean of the load times is not what to plan with. Loads are rare, and a sample that comes each 100 ms
sees them one by one, so the newest are simply kept.
"""

import math

import numpy as np

from services.predictor.core.jit import Row, entry

KEPT = 20
PERCENTILE = 0.9
FIELDS = {"loads_ms": ("f8", KEPT)}  # newest last; 0: not yet so many


@entry
def add(state: Row, loads: float, ms: float) -> None:
    """Take in by how much loads and their milliseconds grew; NaN in one passes both over.

    Loads that ended between two samples count with their mean, each.
    """
    if math.isnan(loads + ms) or loads < 1:
        return
    count = int(min(loads, KEPT))
    for place in range(KEPT):
        kept = place + count < KEPT
        state.loads_ms[place] = state.loads_ms[place + count] if kept else ms / loads


@entry
def load_ms(state: Row, prior_ms: float) -> float:
    """Return the 90th percentile of the load times seen, interpolated between two of them.

    The registry's, `prior_ms`, counts as one load more; so it matters less and less. NaN where the
    registry does not say it and none was seen.
    """
    if state.loads_ms[-1] == 0:
        return prior_ms
    known = np.sort(np.append(state.loads_ms, 0.0 if math.isnan(prior_ms) else prior_ms))
    first = np.searchsorted(known, 0.0, side="right")
    place = first + PERCENTILE * (KEPT - first)
    low = int(place)
    above = known[min(low + 1, KEPT)]
    return known[low] + (place - low) * (above - known[low])
