"""The largest of what was seen in the last 24 hours: what a share is of, where nobody declares it.

A maximum for ever would let one wrong sample, or a faster card long gone, make a node look idle for
good. State is an array of 24: the largest in the hour that runs and in each of the 23 before it.
"""

import math

from services.predictor.core.columns import Floats
from services.predictor.core.jit import entry

HOURS = 24
HOUR_MS = 3_600_000


@entry
def see(by_hour: Floats, seen: float, before_ms: int, now_ms: int) -> None:
    """Take in a value seen at `now_ms`, the one before at `before_ms`; NaN: not known."""
    hour = now_ms // HOUR_MS
    for passed in range(min(hour - before_ms // HOUR_MS, HOURS)):
        by_hour[(hour - passed) % HOURS] = math.nan
    if not seen <= by_hour[hour % HOURS]:
        by_hour[hour % HOURS] = seen if not math.isnan(seen) else by_hour[hour % HOURS]


@entry
def largest(by_hour: Floats) -> float:
    """Return the largest value of the last 24 hours; NaN: there is none."""
    most = math.nan
    for seen in by_hour:
        if not seen <= most and not math.isnan(seen):
            most = seen
    return most
