"""How long a model takes to load on a device type: what nine loads in ten took at most.

A lead time that is too short misses an objective, one too long idles a GPU for some seconds; so the
mean of the load times is not what to plan with. Loads are rare, and a sample that comes each 100 ms
sees them one by one, so the newest are simply kept.
"""

import math

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
    # Asked at each tick: the place is never below the third from the top, so nothing is sorted.
    known = 0
    largest = second = third = 0.0
    for place in range(KEPT + 1):
        ms = state.loads_ms[place] if place < KEPT else prior_ms
        if not ms > 0:  # NaN neither
            continue
        known += 1
        if ms > largest:
            largest, second, third = ms, largest, second
        elif ms > second:
            second, third = ms, second
        elif ms > third:
            third = ms
    above = (1 - PERCENTILE) * (known - 1)  # places from the top, in [0, 2]
    if above <= 1:
        return largest + above * (second - largest)
    return second + (above - 1) * (third - second)
