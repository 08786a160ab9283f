"""The largest of what was seen in the last 24 hours: what a share is of, where nobody declares it.

A maximum for ever would let one wrong sample, or a faster card long gone, make a node look idle for
good. State is (rows, 24): the largest in the hour that runs and in each of the 23 before it.
"""

import numpy as np

from services.predictor.core.columns import Floats

HOURS = 24
HOUR_MS = 3_600_000


def nothing_seen(rows: int) -> Floats:
    """Return the state before the first value."""
    return np.full((rows, HOURS), np.nan)


def see(table: Floats, values: Floats, before_ms: int, now_ms: int) -> Floats:
    """Take in values seen at `now_ms`, (rows,), the ones before at `before_ms`; NaN: not known."""
    hour, passed = now_ms // HOUR_MS, now_ms // HOUR_MS - before_ms // HOUR_MS
    after = table.copy()
    after[:, (hour - np.arange(min(passed, HOURS))) % HOURS] = np.nan
    after[:, hour % HOURS] = np.fmax(after[:, hour % HOURS], values)
    return after


def largest(table: Floats) -> Floats:
    """Return the largest value of the last 24 hours, (rows,); NaN: there is none."""
    most: Floats = np.fmax.reduce(table, axis=1, initial=np.nan)
    return most
