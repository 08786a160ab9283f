"""How many replicas each model should have: growth at once, less only after long evidence.

The forecast may raise a target above what the demand seen now needs, and never lowers it below.
Replicas that are still loading count. Where each one goes is decided in `placement.py`.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import first_fit
from services.scheduler.core.capacity import Capacity, nominal_rps
from services.scheduler.core.contracts import DRAINING, Floats, Ints, Past, Seen
from services.scheduler.core.demand import Demand
from services.scheduler.core.jit import kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas


class Targets(NamedTuple):
    """The placement loop's answer, (models,), and how it came about."""

    target: Ints  # were there place for all
    wanted: Ints  # for the load alone, before any bound
    low_since_ms: Ints
    load_rps: Floats  # what the target was made for; NaN: not known
    nominal_rps: Floats  # capacity that one more replica would add, at the utilisation target
    compute_left: Floats  # (devices,): beside what the loads take


@kernel
def targets_of(
    past: Past, seen: Seen, demand: Demand, replicas: Replicas, capacity: Capacity, policy: Policy
) -> Targets:
    """Return the target of every model.

    A model whose forecast is stale or absent keeps its target, but never fewer than `replicas_min`.
    """
    models = len(seen.gpus)
    staying = replicas.stage != DRAINING
    members = first_fit.members_of(replicas.model, staying, models)
    load_rps = np.fmax(demand.placed_rps, demand.foreseen_rps)
    whole = np.full(len(seen.memory_free), policy.util_target)
    filled = first_fit.fill(load_rps, capacity.full_rps, members, replicas.devices, whole)
    added_rps = nominal_rps(seen, policy) * policy.util_target
    target, wanted, low_since_ms = (
        np.empty(models, np.int64),
        np.empty(models, np.int64),
        np.full(models, -1),
    )
    for m in range(models):
        count = members.first[m + 1] - members.first[m]
        least, most = seen.replicas_min[m], seen.replicas_max[m]
        current = past.target[m] if past.target[m] >= 0 else count
        wanted[m] = filled.needed[m]
        if not demand.known[m]:
            wanted[m] = current
        elif filled.lacking_rps[m] > 0:
            wanted[m] = count + _more(filled.lacking_rps[m], added_rps[m], most)
        target[m] = min(max(wanted[m], least), most)
        if demand.known[m] and target[m] < current:
            since_ms = past.low_since_ms[m] if past.low_since_ms[m] >= 0 else seen.now_ms
            if seen.now_ms - since_ms < policy.shrink_hold_ms:
                low_since_ms[m] = since_ms
                target[m] = min(max(current, least), most)
    return Targets(target, wanted, low_since_ms, load_rps, added_rps, filled.left)


@kernel
def _more(lacking_rps: float, added_rps: float, most: int) -> int:
    """Return how many replicas would carry what is lacking; where no device suits, none would."""
    if added_rps <= 0:
        return 0
    return int(min(np.ceil(lacking_rps / added_rps - 1e-9), float(most)))
