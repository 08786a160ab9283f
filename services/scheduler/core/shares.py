"""The share loop, each tick: batch size and wait, what the router may use, serving or training.

It reacts to more demand in the very tick that sees it, and to less only as the peak fades. It moves
nothing in or out of memory.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import batches, first_fit
from services.scheduler.core.contracts import RESIDENT, Bools, Floats, Ints, Observation
from services.scheduler.core.demand import Demand
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas


class Shares(NamedTuple):
    """What is to hold from now on: of each replica, R, and of each model, M."""

    batch_size: Ints  # R; those that the router may not use keep what they had
    wait_ms: Floats  # R
    serving_share: Floats  # R
    concurrency: Ints  # R: requests it may hold; 0: leave it training; -1: not in the table
    latency_limit: Ints  # R: the largest batch that the objective allows
    needed: Ints  # M: replicas that the demand of now uses
    lacking_rps: Floats  # M: demand that the resident replicas cannot take


def shares_of(
    seen: Observation, demand: Demand, replicas: Replicas, memory_limit: Ints, policy: Policy
) -> Shares:
    """Return how the resident replicas are used. Models without data keep what they have.

    The batch is sized for one replica, since the first one fills before the second wakes: for some
    times the largest demand of late, up to what memory and objective allow. A share is what the
    mean takes: requests that are here always go before training, so a burst needs no more of it.
    A replica that the router may not use is left as it is. `memory_limit` is of each replica.
    """
    resident = (replicas.stage == RESIDENT) & (replicas.model >= 0)
    members = [np.flatnonzero(resident & (replicas.model == m)) for m in range(len(seen.models))]
    objective_ms = np.append(seen.objective_ms, np.nan)[replicas.model]
    known = np.append(demand.known, False)[replicas.model]
    alpha, beta = replicas.alpha_ms, replicas.beta_ms
    budget_ms = policy.batch_margin * objective_ms
    answer_ms = np.append(seen.answer_ms, np.nan)[replicas.model]
    latency_limit = batches.full_batch(alpha, beta, budget_ms, answer_ms)
    limit = np.minimum(np.minimum(memory_limit, latency_limit), _batch_max(seen, replicas))

    capacity = batches.capacity_rps(alpha, beta, limit)
    held = resident & ~known & (replicas.concurrency != 0)
    left = _left(seen, replicas, held, policy)
    filled = first_fit.fill(demand.recent_rps, capacity, members, replicas.devices, left)
    usual = first_fit.fill(demand.mean_rps, capacity, members, replicas.devices, left)

    rate = policy.batch_headroom * np.append(demand.recent_rps, np.nan)[replicas.model]
    need = batches.needed_for(alpha, beta, rate, policy.util_target)
    batch = batches.settled(replicas.batch_size, need, limit)
    # Without data, batches stay; a replica that never had one guesses that it is busy.
    before = np.where(replicas.batch_size > 0, replicas.batch_size, limit)
    batch = np.where(known, batch, np.minimum(before, limit))
    # An LLM's engine and the router bound what runs by what is really there, so no mean does.
    continuous = np.isfinite(answer_ms)
    batch = np.where(continuous, np.minimum(memory_limit, _batch_max(seen, replicas)), batch)
    meant_rps = (
        batches.capacity_rps(alpha, beta, batch) * policy.util_target / policy.batch_headroom
    )
    wait = batches.wait_ms(
        alpha, beta, batch, meant_rps, budget_ms, policy.wait_share * objective_ms
    )
    wait = np.where(continuous, 0.0, wait)
    granted = np.zeros(len(replicas.names), np.bool_)
    for m, those in enumerate(members):
        granted[those] = _granted(m, those, demand, filled, replicas, policy)
    share = _serving_shares(replicas, usual.used, known, granted, len(seen.devices), policy)
    # One that may not be used any more still ends what it holds, in memory that there is.
    ending = np.where(resident, np.minimum(replicas.batch_size, memory_limit), replicas.batch_size)
    # One batch runs while the next one gathers.
    concurrency = np.where(granted, 2 * batch, np.where(resident, 0, -1))
    return Shares(
        np.where(granted, batch, ending),
        np.where(granted, wait, replicas.wait_ms),
        np.where(granted, share, replicas.serving_share),
        concurrency,
        latency_limit,
        filled.needed,
        filled.lacking_rps,
    )


def _batch_max(seen: Observation, replicas: Replicas) -> Ints:
    largest: Ints = np.append(seen.batch_max, 1)[replicas.model]
    return largest


def _left(seen: Observation, replicas: Replicas, held: Bools, policy: Policy) -> Floats:
    """Return the compute of each device that may be used: models without data keep theirs."""
    left = np.full(len(seen.devices) + 1, policy.util_target)
    for r in np.flatnonzero(held):
        left[replicas.devices[r]] -= replicas.serving_share[r] * policy.util_target
    spare: Floats = np.maximum(left[:-1], 0.0)
    return spare


def _granted(
    m: int,
    those: Ints,
    demand: Demand,
    filled: first_fit.Fill,
    replicas: Replicas,
    policy: Policy,
) -> Bools:
    """Return which of a model's replicas the router may use: those needed, and some to wake."""
    granted: Bools = np.arange(len(those)) < filled.needed[m] + policy.standby_grant
    if not demand.known[m]:
        # 0 stays 0; those not yet in the table (-1) may be used, as nobody knows the load.
        granted = replicas.concurrency[those] != 0
    elif filled.lacking_rps[m] > 0:
        granted = np.ones(len(those), np.bool_)
    return granted


def _serving_shares(
    replicas: Replicas,
    used: Floats,
    known: Bools,
    granted: Bools,
    devices: int,
    policy: Policy,
) -> Floats:
    """Return the parts of their GPUs, at most 1 over any, that those granted get before training.

    A replica expected to be as full as the utilisation target allows gets all; one that stands by
    gets nothing, and so trains until the router wakes it. A share falls only by two steps or more.
    """
    step = policy.share_step
    need = np.round(np.ceil(used / policy.util_target / step - 1e-9) * step, 6)
    current = replicas.serving_share
    keep = (used > 0) & (current >= need) & (current - need < 2 * step - 1e-9)
    share = np.where(keep | ~known, current, np.minimum(need, 1.0))
    left = [1.0] * devices + [1.0]
    for r in np.flatnonzero(granted):
        places = [d for d in replicas.devices[r].tolist() if d >= 0]
        share[r] = max(0.0, round(min(share[r], *(left[d] for d in places)), 6))
        for d in places:
            left[d] -= share[r]
    return share
