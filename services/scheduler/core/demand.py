"""Demand: what is asked of each model now, and what may be asked by the time a load has ended."""

from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import QUANTILES, Bools, Floats, Observation, State
from services.scheduler.core.policy import Policy


class Demand(NamedTuple):
    """Rates that must be carried, (models,); NaN where `known` is false."""

    known: Bools  # the forecast is there and still holds
    now_rps: Floats  # arrivals, and the queue drained in `queue_drain_ms`
    # Demand is noisy, most of all by its queue: sized for it anew at each tick, everything would
    # change at each tick. So it is remembered in two ways, with one half-life.
    recent_rps: Floats  # the largest `now_rps` of late: follows a rise at once, and fades slowly
    mean_rps: Floats  # the mean `now_rps` of late
    # The least since the last placement: a replica cannot help a clump of a tenth of a second.
    lasting_rps: Floats
    foreseen_rps: Floats  # the quantile of the largest 10 s mean until then; NaN: not foreseen
    median_rps: Floats  # the same at the median: what a guess without caution would be

    @property
    def placed_rps(self) -> Floats:
        """What replicas must carry now: the mean of late, or more where more has lasted."""
        return np.fmax(self.mean_rps, self.lasting_rps)


def demand_of(state: State, seen: Observation, policy: Policy) -> Demand:
    """Return what every model must carry. A queue that is not known counts as empty."""
    known = (seen.next_by_ms >= seen.now_ms) & np.isfinite(seen.arrival_rate_rps)
    lead_ms = _lead_time_ms(seen, policy)
    queue = np.nan_to_num(seen.queue_requests)
    now_rps = seen.arrival_rate_rps + 1000.0 * queue / policy.queue_drain_ms
    kept = 0.5 ** (np.maximum(seen.now_ms - state.demand_ms, 0) / policy.demand_half_life_ms)
    quantiles = _at_horizon(seen, lead_ms)
    return Demand(
        known,
        np.where(known, now_rps, np.nan),
        np.where(known, np.maximum(now_rps, kept * state.recent_rps), np.nan),
        np.where(known, now_rps + kept * (state.mean_rps - now_rps), np.nan),
        np.where(known, np.minimum(now_rps, state.lasting_rps), np.nan),
        np.where(known, _at_quantile(quantiles, policy.quantile), np.nan),
        np.where(known, quantiles[:, 0], np.nan),
    )


def _lead_time_ms(seen: Observation, policy: Policy) -> Floats:
    # The slowest type decides, since a new replica may end up there; -1 makes NaN lose.
    known = np.nan_to_num(seen.lead_time_ms, nan=-1.0)
    slowest = known.max(axis=1, initial=-1.0)
    return np.where(slowest < 0, policy.lead_time_ms, slowest)


def _at_horizon(seen: Observation, lead_ms: Floats) -> Floats:
    """Return (models, quantiles) at the first horizon that covers the lead time, else the last."""
    if seen.horizon_ms.shape[1] == 0:
        return np.full((len(seen.models), len(QUANTILES)), np.nan)
    count = np.isfinite(seen.horizon_ms).sum(axis=1)
    covering = (seen.horizon_ms < lead_ms[:, None]).sum(axis=1)
    column = np.clip(covering, 0, np.maximum(count - 1, 0))
    chosen: Floats = np.take_along_axis(seen.peak_rps, column[:, None, None], axis=1)[:, 0, :]
    return chosen


def _at_quantile(values: Floats, quantile: float) -> Floats:
    """Interpolate between the columns; a quantile beyond the last one takes the last."""
    right = int(np.clip(np.searchsorted(QUANTILES, quantile), 1, len(QUANTILES) - 1))
    low, high = QUANTILES[right - 1], QUANTILES[right]
    part = min(1.0, max(0.0, (quantile - low) / (high - low)))
    between: Floats = values[:, right - 1] * (1 - part) + values[:, right] * part
    return between
