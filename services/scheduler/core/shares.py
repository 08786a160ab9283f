"""The share loop, each tick: batch size and wait, what the router may use, serving or training.

It reacts to more demand in the very tick that sees it, and to less only as the peak fades. It moves
nothing in or out of memory.
"""

import math
from typing import NamedTuple

import numpy as np

from services.scheduler.core import batches, first_fit
from services.scheduler.core.capacity import Capacity
from services.scheduler.core.contracts import RESIDENT, Bools, Floats, Ints, Seen
from services.scheduler.core.demand import Demand
from services.scheduler.core.first_fit import Members
from services.scheduler.core.jit import kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas
from services.scheduler.core.weights import serving_weight


class Shares(NamedTuple):
    """What is to hold from now on: of each replica, R, and of each model, M."""

    batch_size: Ints  # R; those that the router may not use keep what they had
    wait_ms: Floats  # R
    serving_share: Floats  # R
    concurrency: Ints  # R: requests it may hold; 0: leave it training; -1: not in the table
    needed: Ints  # M: replicas that the demand of now uses
    lacking_rps: Floats  # M: demand that the resident replicas cannot take


@kernel
def shares_of(
    seen: Seen, demand: Demand, replicas: Replicas, capacity: Capacity, policy: Policy
) -> Shares:
    """Return how the resident replicas are used. Models without data keep what they have.

    The batch is sized for one replica, since the first one fills before the second wakes: for some
    times the largest demand of late, up to what memory and objective allow. A share is kept for the
    mean: requests that are here always go before training, so a burst needs no more of it. A
    replica that the router may not use is left as it is.
    """
    count, models = len(replicas.model), len(seen.objective_ms)
    limit, rate_rps = np.ones(count, np.int64), np.zeros(count)
    usable = np.zeros(count, np.bool_)
    for r in range(count):
        m = replicas.model[r]
        if m >= 0:
            usable[r] = replicas.stage[r] == RESIDENT
            limit[r] = min(capacity.full[r], seen.batch_max[m])
            rate_rps[r] = batches.capacity_rps(capacity.alpha_ms[r], capacity.beta_ms[r], limit[r])
    members = first_fit.members_of(replicas.model, usable, models)
    left = _left(replicas, usable, demand, len(seen.memory_free), policy.util_target)
    filled = first_fit.fill(demand.recent_rps, rate_rps, members, replicas.devices, left)
    usual = first_fit.fill(demand.mean_rps, rate_rps, members, replicas.devices, left)
    granted = _granted(members, demand, filled, replicas, policy.standby_grant)
    batch, wait = replicas.batch_size.copy(), replicas.wait_ms.copy()
    concurrency = np.full(count, -1)
    for r in range(count):
        if granted[r]:
            batch[r] = _batch(r, limit[r], seen, demand, replicas, capacity, policy)
            wait[r] = _wait_ms(r, batch[r], seen, replicas, capacity, policy)
            concurrency[r] = 2 * batch[r]  # one batch runs while the next one gathers
        elif usable[r]:
            # One that may not be used any more still ends what it holds, in memory that there is.
            batch[r] = min(batch[r], capacity.memory_limit[r])
            concurrency[r] = 0
    ratio = seen.slo_ratio_p98
    share = _serving_shares(replicas, usual.used, ratio, demand, granted, len(left), policy)
    return Shares(batch, wait, share, concurrency, filled.needed, filled.lacking_rps)


@kernel
def _left(
    replicas: Replicas, usable: Bools, demand: Demand, devices: int, util_target: float
) -> Floats:
    """Return the compute of each device that may be used: models without data keep theirs."""
    left = np.full(devices, util_target)
    for r in range(len(usable)):
        if usable[r] and not demand.known[replicas.model[r]] and replicas.concurrency[r] != 0:
            for d in replicas.devices[r]:
                if d >= 0:
                    left[d] -= replicas.serving_share[r] * util_target
    return np.maximum(left, 0.0)


@kernel
def _granted(
    members: Members, demand: Demand, filled: first_fit.Fill, replicas: Replicas, standby: int
) -> Bools:
    """Return which replicas the router may use: of each model those needed, and some to wake."""
    granted = np.zeros(len(replicas.model), np.bool_)
    for m in range(len(filled.needed)):
        used = filled.needed[m] + standby
        for i in range(members.first[m], members.first[m + 1]):
            r = members.row[i]
            if not demand.known[m]:
                # 0 stays 0; those not yet in the table (-1) may be used: nobody knows the load.
                granted[r] = replicas.concurrency[r] != 0
            else:
                granted[r] = filled.lacking_rps[m] > 0 or i - members.first[m] < used
    return granted


@kernel
def _batch(
    r: int,
    limit: int,
    seen: Seen,
    demand: Demand,
    replicas: Replicas,
    capacity: Capacity,
    policy: Policy,
) -> int:
    """Return the batch size of a replica that may be used."""
    m, before = replicas.model[r], replicas.batch_size[r]
    if math.isfinite(seen.answer_ms[m]):
        # An LLM's engine and the router bound what runs by what is really there: no mean does.
        return min(capacity.memory_limit[r], seen.batch_max[m])
    if not demand.known[m]:
        # Without data, batches stay; a replica that never had one guesses that it is busy.
        return min(before, limit) if before > 0 else limit
    rate_rps = policy.batch_headroom * demand.recent_rps[m]
    alpha, beta = capacity.alpha_ms[r], capacity.beta_ms[r]
    need = batches.needed_for(alpha, beta, rate_rps, policy.util_target)
    return batches.settled(before, need, limit)


@kernel
def _wait_ms(
    r: int, batch: int, seen: Seen, replicas: Replicas, capacity: Capacity, policy: Policy
) -> float:
    """Return how long such a replica waits for company, at the load that its batch is meant for."""
    m, alpha, beta = replicas.model[r], capacity.alpha_ms[r], capacity.beta_ms[r]
    if math.isfinite(seen.answer_ms[m]):
        return 0.0
    objective_ms = seen.objective_ms[m]
    meant_rps = (
        batches.capacity_rps(alpha, beta, batch) * policy.util_target / policy.batch_headroom
    )
    return batches.wait_ms(
        alpha,
        beta,
        batch,
        meant_rps,
        policy.batch_margin * objective_ms,
        policy.wait_share * objective_ms,
    )


@kernel
def _serving_shares(
    replicas: Replicas,
    used: Floats,
    slo_ratio: Floats,
    demand: Demand,
    granted: Bools,
    devices: int,
    policy: Policy,
) -> Floats:
    """Return the parts of their GPUs, at most 1 over any, that are kept from training.

    Requests that are here always go first, so what is kept is for those to come: `serving_reserve`
    of what the load takes, where the utilisation target is all. Or, where so wished, by the rule of
    weights. A share falls only by two steps or more.
    """
    step = policy.share_step
    left = np.ones(devices)
    shares = replicas.serving_share.copy()
    for r in range(len(shares)):
        if not granted[r]:
            continue
        share = shares[r]
        if demand.known[replicas.model[r]]:
            m, busy = replicas.model[r], used[r] / policy.util_target
            if policy.weight_rule:
                busy = serving_weight(slo_ratio[m], busy)
            else:
                busy *= policy.serving_reserve
            need = _tidy(np.ceil(busy / step - 1e-9) * step)
            keep = used[r] > 0 and share >= need and share - need < 2 * step - 1e-9
            share = share if keep else min(need, 1.0)
        for d in replicas.devices[r]:
            if d >= 0:
                share = min(share, left[d])
        shares[r] = max(0.0, _tidy(share))
        for d in replicas.devices[r]:
            if d >= 0:
                left[d] -= shares[r]
    return shares


@kernel
def _tidy(share: float) -> float:
    """Return a share to six digits: steps of a tenth add up to 1, not to 0.9999999999999999."""
    return float(np.rint(share * 1e6) / 1e6)
