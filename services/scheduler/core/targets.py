"""How many replicas each model should have: growth at once, less only after long evidence.

The forecast may raise a target above what the demand seen now needs, and never lowers it below.
Replicas that are still loading count. Where each one goes is decided in `placement.py`.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import first_fit
from services.scheduler.core.contracts import Floats, Ints, Observation, State
from services.scheduler.core.demand import Demand
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


def targets_of(
    state: State,
    seen: Observation,
    demand: Demand,
    replicas: Replicas,
    capacity_rps: Floats,
    nominal_rps: Floats,
    policy: Policy,
) -> Targets:
    """Return the target of every model.

    `capacity_rps` is of each replica and `nominal_rps` of a new one of each model, both without the
    utilisation target. A model whose forecast is stale or absent keeps its target, but never fewer
    than `replicas_min`.
    """
    members = [replicas.of(m) for m in range(len(seen.models))]
    count = np.array([len(those) for those in members], np.int64)
    current = np.where(state.target >= 0, state.target, count)
    load_rps = np.fmax(demand.placed_rps, demand.foreseen_rps)
    room = np.full(len(seen.devices), policy.util_target)
    filled = first_fit.fill(load_rps, capacity_rps, members, replicas.devices, room)
    added_rps = nominal_rps * policy.util_target
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.ceil(filled.lacking_rps / added_rps - 1e-9)
    # Where no device suits the model, no number of replicas would help.
    more = np.where((filled.lacking_rps > 0) & (added_rps > 0), more, 0.0)
    more = np.minimum(more, seen.replicas_max).astype(np.int64)
    wanted = np.where(filled.lacking_rps > 0, count + more, filled.needed)
    wanted = np.where(demand.known, wanted, current)
    bounded = np.clip(wanted, seen.replicas_min, seen.replicas_max)
    low = demand.known & (bounded < current)
    since = np.where(state.low_since_ms >= 0, state.low_since_ms, seen.now_ms)
    held = low & (seen.now_ms - since < policy.shrink_hold_ms)
    target = np.clip(np.where(held, current, bounded), seen.replicas_min, seen.replicas_max)
    low_since_ms = np.where(low & held, since, -1)
    return Targets(target, wanted, low_since_ms, load_rps, added_rps, filled.left)
