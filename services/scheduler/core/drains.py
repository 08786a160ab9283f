"""Which replicas leave: those that are neither needed nor may stand by, once the rest can do."""

import math

import numpy as np

from services.scheduler.core import standbys
from services.scheduler.core.capacity import Capacity
from services.scheduler.core.contracts import DRAINED, DRAINING, RESIDENT, Ints, Seen
from services.scheduler.core.demand import Demand
from services.scheduler.core.jit import kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas


@kernel
def drains_of(
    target: Ints,
    crowded: bool,
    seen: Seen,
    demand: Demand,
    replicas: Replicas,
    capacity: Capacity,
    policy: Policy,
) -> Ints:
    """Return the replicas to drain: at most one of each model above its target, and all unlisted.

    The last replica in the fixed order goes, where it may not stand by: as others lack memory
    (`crowded`), or it holds what training is to have, or there are more than `replicas_max`. And
    only if the rest are shown to carry the demand within the utilisation target, and to have memory
    for every request that is here. What a person wants gone from a node goes before that.
    """
    models = len(target)
    count, last = np.zeros(models, np.int64), np.full(models, -1)
    rest_rps, rest_requests = np.zeros(models), np.zeros(models, np.int64)
    unlisted = 0
    for r in range(len(replicas.model)):
        m, resident = replicas.model[r], replicas.stage[r] == RESIDENT
        unlisted += m < 0 and resident
        if m >= 0 and resident:
            if last[m] >= 0:
                rest_rps[m] += capacity.full_rps[last[m]] * policy.util_target
                rest_requests[m] += capacity.full[last[m]]
            last[m] = r
        if m >= 0 and replicas.stage[r] != DRAINING:
            count[m] += 1
    chosen, found = np.empty(models + unlisted, np.int64), 0
    leaving = _evicted(target, seen, demand, replicas, capacity, policy)
    for m in range(models):
        if leaving[m] >= 0:
            chosen[found] = leaving[m]
            found += 1
            continue
        if count[m] > target[m] and last[m] >= 0 and demand.known[m] and not seen.paused[m]:
            stands_by = count[m] <= seen.replicas_max[m] and not crowded
            if stands_by and not standbys.hold_reserve(last[m], seen, replicas, capacity, policy):
                continue
            if _suffice(m, rest_rps[m], rest_requests[m], seen, demand):
                chosen[found] = last[m]
                found += 1
    for r in range(len(replicas.model)):
        if replicas.model[r] < 0 and replicas.stage[r] == RESIDENT:
            chosen[found] = r
            found += 1
    return chosen[:found]


@kernel
def is_evicted(r: int, replicas: Replicas, seen: Seen) -> bool:
    """Whether a person wants replica r gone from where it is."""
    evicted = False
    for d in replicas.devices[r]:
        evicted |= d >= 0 and seen.closed[d] == DRAINED
    return evicted


@kernel
def _evicted(
    target: Ints, seen: Seen, demand: Demand, replicas: Replicas, capacity: Capacity, policy: Policy
) -> Ints:
    """Return of each model the replica that leaves a drained node, -1: none.

    It goes once as many as the target are resident elsewhere and carry the demand.
    """
    models = len(target)
    chosen, others = np.full(models, -1), np.zeros(models, np.int64)
    rest_rps, rest_requests = np.zeros(models), np.zeros(models, np.int64)
    for r in range(len(replicas.model)):
        m = replicas.model[r]
        if m < 0 or replicas.stage[r] != RESIDENT:
            continue
        if is_evicted(r, replicas, seen):
            chosen[m] = r
        else:
            others[m] += 1
            rest_rps[m] += capacity.full_rps[r] * policy.util_target
            rest_requests[m] += capacity.full[r]
    for m in range(models):
        safe = others[m] >= target[m] and demand.known[m] and not seen.paused[m]
        if not safe or not _suffice(m, rest_rps[m], rest_requests[m], seen, demand):
            chosen[m] = -1
    return chosen


@kernel
def _suffice(m: int, rest_rps: float, rest_requests: int, seen: Seen, demand: Demand) -> bool:
    """Whether those that stay carry a model's demand, and have memory for its requests.

    Whoever pins a model answers for what it can carry, but not for its requests' memory.
    """
    carries = seen.pinned[m] or rest_rps >= demand.now_rps[m] - 1e-6
    requests = _known(seen.queue_requests[m]) + _known(seen.in_flight_requests[m])
    return carries and rest_requests >= requests


@kernel
def _known(requests: float) -> float:
    return 0.0 if math.isnan(requests) else requests
