"""Which replicas leave: those that are neither needed nor may stand by, once the rest can do."""

import math

import numpy as np

from services.scheduler.core import standbys
from services.scheduler.core.capacity import Capacity
from services.scheduler.core.contracts import DRAINING, RESIDENT, Ints, Seen
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
    for every request that is here.
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
    for m in range(models):
        if count[m] > target[m] and last[m] >= 0 and demand.known[m]:
            stands_by = count[m] <= seen.replicas_max[m] and not crowded
            if stands_by and not standbys.hold_reserve(last[m], seen, replicas, capacity, policy):
                continue
            carries = rest_rps[m] >= demand.now_rps[m] - 1e-6
            requests = _known(seen.queue_requests[m]) + _known(seen.in_flight_requests[m])
            if carries and rest_requests[m] >= requests:
                chosen[found] = last[m]
                found += 1
    for r in range(len(replicas.model)):
        if replicas.model[r] < 0 and replicas.stage[r] == RESIDENT:
            chosen[found] = r
            found += 1
    return chosen[:found]


@kernel
def _known(requests: float) -> float:
    return 0.0 if math.isnan(requests) else requests
