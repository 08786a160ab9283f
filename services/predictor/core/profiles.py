"""What kind of load a node bears, and when it is low, from a day of its history and more.

Tables by hour of the day (UTC) build up: of each hour its mean share, over days, and its busiest
minute, of the last day. A share is that of the busiest resource, in [0, 1]: the one that a node
runs out of first. One record a node; NaN says not known.
"""

import math

import numpy as np

from libs.common import plimsoll_pb2 as pb
from services.predictor.core.columns import Floats, Ints
from services.predictor.core.jit import Row, Table, entry, kernel, record

HOURS = 24
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
STEADY = 0.85  # at its peak: always needed, so worth a reservation
BURSTY = 0.40  # at its peak: seldom needed, so better had on demand; an hour with this mean is low
DAY_GAIN = 0.5  # of a whole hour, against what the hours of the days before say
GONE_DAY = 0.5  # what an hour's record is still worth after a day that did not show it
DAY_WORTH = 0.75  # the part of a day that must be known: 18 hours, if whole

DAYS = record(
    {
        # Of the minute and of the hour that run: the sum of share x seconds, and the seconds.
        "minute": "f8",
        "minute_s": "f8",
        "hour": "f8",
        "hour_s": "f8",
        "busiest": "f8",  # minute of the hour that runs, its mean
        # By hour of the day; `worth` is how much of it is known, in [0, 1].
        "mean": ("f8", HOURS),
        "peak": ("f8", HOURS),
        "worth": ("f8", HOURS),
        "since_ms": "f8",  # of the first sample
    }
)


def nothing_seen(nodes: int) -> Table:
    """Return the state of nodes never seen."""
    state = np.zeros(nodes, DAYS)
    for field in ("busiest", "mean", "peak", "since_ms"):
        state[field] = np.nan
    return state


@entry
def see(state: Row, share: float, before_ms: int, now_ms: int) -> None:
    """Take in the share of the time between two samples; NaN: not known.

    It counts to the minute in which it begins. Over more than a minute it is a gap: its mean tells
    nothing of its peak.
    """
    elapsed_s = (now_ms - before_ms) / 1000
    if not math.isnan(share) and elapsed_s <= MINUTE_MS / 1000:
        state.minute += share * elapsed_s
        state.minute_s += elapsed_s
        state.hour += share * elapsed_s
        state.hour_s += elapsed_s
        if math.isnan(state.since_ms):
            state.since_ms = before_ms
    if before_ms // MINUTE_MS != now_ms // MINUTE_MS:
        _close_minute(state)
    first, last = before_ms // HOUR_MS, now_ms // HOUR_MS
    if first != last:
        _close_hour(state, first % HOURS)
        for passed in range(first + 1, min(last, first + 30 * HOURS)):  # a month leaves nothing
            state.worth[passed % HOURS] *= GONE_DAY


def known(state: Table, now_ms: int) -> Table:
    """Return of which nodes a day was seen, but for some gaps, (nodes,)."""
    a_day_old = now_ms - state["since_ms"] >= HOURS * HOUR_MS
    enough: Table = a_day_old & (state["worth"].mean(axis=1) >= DAY_WORTH)
    return enough


def day_peak(state: Table, now_ms: int) -> Floats:
    """Return the share in the busiest minute of the last day, (nodes,); NaN: no day was seen."""
    busiest = np.fmax(np.fmax.reduce(state["peak"], axis=1, initial=np.nan), state["busiest"])
    return np.where(known(state, now_ms), busiest, np.nan)


def hour_means(state: Table, now_ms: int) -> Floats:
    """Return the mean share by hour of the day, (nodes, 24); NaN: no day was seen."""
    return np.where(known(state, now_ms)[:, None], state["mean"], np.nan)


def classify(peak: Floats) -> Ints:
    """Return the profile of each node, as `NodeScore.Profile` numbers them."""
    kind = np.full(len(peak), pb.NodeScore.UNKNOWN, dtype=np.int64)
    kind[~np.isnan(peak)] = pb.NodeScore.BETWEEN
    kind[peak >= STEADY] = pb.NodeScore.STEADY
    kind[peak <= BURSTY] = pb.NodeScore.BURSTY
    return kind


def low_hours(mean: Floats) -> Ints:
    """Return the hours of the day in which each node is low: bit h stands for hour h, UTC.

    24 bits are the next 24 hours, whenever they begin. An hour of which nothing is known is not.
    """
    bits: Ints = ((mean <= BURSTY) << np.arange(HOURS)).sum(axis=1)
    return bits


@kernel
def _close_minute(state: Row) -> None:
    """Let the busiest minute of the hour be the one that ends, where half of it is known."""
    if state.minute_s >= MINUTE_MS / 2000:
        mean = state.minute / state.minute_s
        if not mean <= state.busiest:
            state.busiest = mean
    state.minute = state.minute_s = 0.0


@kernel
def _close_hour(state: Row, at: int) -> None:
    """Take the hour that ends into the tables; one with gaps counts less."""
    part = min(state.hour_s / (HOUR_MS / 1000), 1.0)
    if part > 0:
        mean = state.hour / state.hour_s
        moved = state.mean[at] + DAY_GAIN * part * (mean - state.mean[at])
        state.mean[at] = mean if math.isnan(state.mean[at]) else moved
    # Half an hour may have missed the peak, so it only raises the one that is known.
    raises = not math.isnan(state.busiest) and not state.busiest <= state.peak[at]
    if raises or (part >= 0.5 and not math.isnan(state.busiest)):
        state.peak[at] = state.busiest
    state.worth[at] = part + (1 - part) * GONE_DAY * state.worth[at]
    state.hour = state.hour_s = 0.0
    state.busiest = math.nan
