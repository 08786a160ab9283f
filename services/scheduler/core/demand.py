"""Demand: what is asked of each model now, and what may be asked by the time a load has ended."""

import math
from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import QUANTILES, Bools, Floats, Past, Seen
from services.scheduler.core.jit import kernel
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
    placed_rps: Floats  # what replicas must carry now: the mean, or more where more has lasted
    foreseen_rps: Floats  # the quantile of the largest 10 s mean until then; NaN: not foreseen
    median_rps: Floats  # the same at the median: what a guess without caution would be


@kernel
def demand_of(past: Past, seen: Seen, policy: Policy) -> Demand:
    """Return what every model must carry. A queue that is not known counts as empty."""
    models = len(seen.arrival_rate_rps)
    known = np.zeros(models, np.bool_)
    rates = np.full((7, models), np.nan)
    now, recent, mean, lasting = rates[0], rates[1], rates[2], rates[3]
    placed, foreseen, median = rates[4], rates[5], rates[6]
    right, part = _columns(policy.cost_miss / (policy.cost_miss + policy.cost_idle))
    for m in range(models):
        known[m] = seen.next_by_ms[m] >= seen.now_ms and math.isfinite(seen.arrival_rate_rps[m])
        if not known[m]:
            continue
        queue = seen.queue_requests[m]
        queue_rps = 0.0 if math.isnan(queue) else 1000.0 * queue / policy.queue_drain_ms
        now[m] = seen.arrival_rate_rps[m] + queue_rps
        past_ms = max(seen.now_ms - past.demand_ms[m], 0)
        kept = 0.5 ** (past_ms / policy.demand_half_life_ms)
        recent[m] = max(now[m], kept * past.recent_rps[m])
        mean[m] = now[m] + kept * (past.mean_rps[m] - now[m])
        lasting[m] = min(now[m], past.lasting_rps[m])
        placed[m] = max(mean[m], lasting[m])
        if seen.horizon_ms.shape[1] > 0:
            lead_ms = _lead_ms(seen.lead_time_ms[m], policy.lead_time_ms)
            peak_rps = seen.peak_rps[m, _horizon(seen.horizon_ms[m], lead_ms)]
            foreseen[m] = peak_rps[right - 1] * (1 - part) + peak_rps[right] * part
            median[m] = peak_rps[0]
    return Demand(known, now, recent, mean, lasting, placed, foreseen, median)


@kernel
def _lead_ms(of_type_ms: Floats, otherwise_ms: int) -> float:
    # The slowest type decides, since a new replica may end up there.
    slowest_ms = -1.0
    for lead_ms in of_type_ms:
        if lead_ms > slowest_ms:
            slowest_ms = lead_ms
    return float(otherwise_ms) if slowest_ms < 0 else slowest_ms


@kernel
def _horizon(horizon_ms: Floats, lead_ms: float) -> int:
    """Return the first of a model's horizons that covers the lead time, else the last."""
    count = covering = 0
    for end_ms in horizon_ms:
        count += math.isfinite(end_ms)
        covering += end_ms < lead_ms
    return min(covering, max(count - 1, 0))


@kernel
def _columns(quantile: float) -> tuple[int, float]:
    """Return the column right of a quantile, and its part in what lies between; the last beyond."""
    right = 1
    while right < len(QUANTILES) - 1 and QUANTILES[right] < quantile:
        right += 1
    low, high = QUANTILES[right - 1], QUANTILES[right]
    return right, min(1.0, max(0.0, (quantile - low) / (high - low)))
