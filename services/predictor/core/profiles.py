"""What kind of load a node bears, and when it is low, from a day of its history and more.

Tables by hour of the day (UTC) build up: of each hour its mean share, over days, and its busiest
minute, of the last day. A share is that of the busiest resource, in [0, 1]: the one that a node
runs out of first. Arrays are (nodes,) or (nodes, 24); NaN says not known.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from services.predictor.core.columns import Floats, Ints

HOURS = 24
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
STEADY = 0.85  # at its peak: always needed, so worth a reservation
BURSTY = 0.40  # at its peak: seldom needed, so better had on demand; an hour with this mean is low
DAY_GAIN = 0.5  # of a whole hour, against what the hours of the days before say
GONE_DAY = 0.5  # what an hour's record is still worth after a day that did not show it
DAY_WORTH = 0.75  # the part of a day that must be known: 18 hours, if whole


class Days(NamedTuple):
    """What is remembered of each node: 75 numbers."""

    minute: Floats  # share x seconds and seconds of the minute that runs, (nodes, 2)
    hour: Floats  # the same of the hour that runs, and its busiest whole minute, (nodes, 3)
    mean: Floats  # by hour of the day
    peak: Floats  # by hour of the day, the busiest minute of the last one
    worth: Floats  # by hour of the day, in [0, 1]: how much of it is known
    since_ms: Floats  # of the first sample


def nothing_seen(nodes: int) -> Days:
    """Return the state of nodes never seen."""
    unknown = np.full((nodes, HOURS), np.nan)
    hour = np.tile((0.0, 0.0, np.nan), (nodes, 1))
    worth = np.zeros((nodes, HOURS))
    return Days(np.zeros((nodes, 2)), hour, unknown, unknown, worth, np.full(nodes, np.nan))


def see(state: Days, share: Floats, before_ms: int, now_ms: int) -> Days:
    """Take in the share of the time between two samples, (nodes,); NaN: not known.

    It counts to the minute in which it begins. Over more than a minute it is a gap: its mean tells
    nothing of its peak.
    """
    elapsed_s = (now_ms - before_ms) / 1000
    known_s = np.where(np.isnan(share) | (elapsed_s > MINUTE_MS / 1000), 0.0, elapsed_s)
    more = np.column_stack((np.nan_to_num(share) * known_s, known_s))
    hour = state.hour.copy()
    hour[:, :2] += more
    first = np.isnan(state.since_ms) & (known_s > 0)
    since_ms = np.where(first, float(before_ms), state.since_ms)
    state = state._replace(minute=state.minute + more, hour=hour, since_ms=since_ms)
    if before_ms // MINUTE_MS != now_ms // MINUTE_MS:
        state = _close_minute(state)
    if before_ms // HOUR_MS != now_ms // HOUR_MS:
        state = _close_hour(state, before_ms // HOUR_MS)
        state = _pass_over(state, before_ms // HOUR_MS + 1, now_ms // HOUR_MS)
    return state


def known(state: Days, now_ms: int) -> npt.NDArray[np.bool_]:
    """Return of which nodes a day was seen, but for some gaps, (nodes,)."""
    a_day_old = now_ms - state.since_ms >= HOURS * HOUR_MS
    enough: npt.NDArray[np.bool_] = a_day_old & (state.worth.mean(axis=1) >= DAY_WORTH)
    return enough


def day_peak(state: Days, now_ms: int) -> Floats:
    """Return the share in the busiest minute of the last day; NaN before a day was seen."""
    busiest = np.fmax.reduce(state.peak, axis=1, initial=np.nan)
    return np.where(known(state, now_ms), np.fmax(busiest, state.hour[:, 2]), np.nan)


def hour_means(state: Days, now_ms: int) -> Floats:
    """Return the mean share by hour of the day, (nodes, 24); NaN before a day was seen."""
    return np.where(known(state, now_ms)[:, None], state.mean, np.nan)


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


def _close_minute(state: Days) -> Days:
    """Let the busiest minute of the hour be the one that ends, where half of it is known."""
    sums, seconds = state.minute.T
    whole = seconds >= MINUTE_MS / 2000
    mean = np.full(len(seconds), np.nan)
    np.divide(sums, seconds, out=mean, where=whole)
    hour = state.hour.copy()
    hour[:, 2] = np.fmax(hour[:, 2], mean)
    return state._replace(minute=np.zeros_like(state.minute), hour=hour)


def _close_hour(state: Days, hour_number: int) -> Days:
    """Take the hour that ends into the tables; one with gaps counts less."""
    at = hour_number % HOURS
    sums, seconds, busiest = state.hour.T
    part = (seconds / (HOUR_MS / 1000)).clip(0, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        came = sums / seconds  # NaN where nothing is known
    mean, peak, worth = state.mean.copy(), state.peak.copy(), state.worth.copy()
    first = np.isnan(mean[:, at])
    moved = mean[:, at] + DAY_GAIN * part * (came - mean[:, at])
    mean[:, at] = np.where(np.isnan(came), mean[:, at], np.where(first, came, moved))
    # Half an hour may have missed the peak, so it only raises the one that is known.
    newest = np.where(part >= 0.5, busiest, np.nan)
    peak[:, at] = np.where(np.isnan(newest), np.fmax(peak[:, at], busiest), newest)
    worth[:, at] = part + (1 - part) * GONE_DAY * worth[:, at]
    hour = np.tile((0.0, 0.0, np.nan), (len(part), 1))
    return state._replace(hour=hour, mean=mean, peak=peak, worth=worth)


def _pass_over(state: Days, first_hour: int, end_hour: int) -> Days:
    """Let what is known of the hours in [first, end) be worth less: they were not seen today."""
    if first_hour >= end_hour:
        return state
    end_hour = min(end_hour, first_hour + 30 * HOURS)  # a month leaves nothing
    passed = np.bincount(np.arange(first_hour, end_hour) % HOURS, minlength=HOURS)
    return state._replace(worth=state.worth * GONE_DAY**passed)
