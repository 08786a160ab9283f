"""The numbers of a tick: two kernels, from arrays to arrays, without a name.

`plan` says how many replicas each model should have, every tenth tick; `share` how those that there
are get used, every tick. Their time grows with the rows, and with nothing else.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import placement, theta
from services.scheduler.core.capacity import Capacity, capacity_of, resident_rps
from services.scheduler.core.contracts import Floats, Ints, Past, Seen
from services.scheduler.core.demand import Demand, demand_of
from services.scheduler.core.drains import drains_of
from services.scheduler.core.jit import entry, kernel
from services.scheduler.core.placement import Digests, Loads
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas
from services.scheduler.core.shares import Shares, shares_of
from services.scheduler.core.targets import Targets, targets_of


class Plan(NamedTuple):
    """The placement loop's wishes."""

    targets: Targets
    drains: Ints  # rows of replicas that should leave
    loads: Loads


class Found(NamedTuple):
    """What the share loop found and changed."""

    demand: Demand
    capacity: Capacity
    shares: Shares
    past: Past  # for the next tick
    resident_rps: Floats  # M
    new_batches: Ints  # rows of replicas to be told
    new_tables: Ints  # models whose routes or theta are new
    batch_said: Ints  # M: the first row whose batch or wait is new; -1: none
    to_say: Ints  # models of which there is something to explain


@entry
def plan(past: Past, seen: Seen, replicas: Replicas, digests: Digests, policy: Policy) -> Plan:
    """Return the targets, and what moves for them: at most `moves_max`."""
    demand = demand_of(past, seen, policy)
    capacity = capacity_of(replicas, seen, policy)
    targets = targets_of(past, seen, demand, replicas, capacity, policy)
    coming = placement.loads(targets, digests, seen, replicas, capacity, policy.moves_max, policy)
    leaving = drains_of(
        targets.target, bool(coming.crowded.any()), seen, demand, replicas, capacity, policy
    )[: policy.moves_max - len(coming.model)]
    return Plan(targets, leaving, coming)


@entry
def share(
    past: Past, seen: Seen, replicas: Replicas, policy: Policy, placed: bool, corrected: bool
) -> Found:
    """Return the shares, and what is new in them.

    `placed` and `corrected` say whether this tick places, and whether it corrects theta.
    """
    demand = demand_of(past, seen, policy)
    capacity = capacity_of(replicas, seen, policy)
    shares = _paused(shares_of(seen, demand, replicas, capacity, policy), replicas, seen)
    now = _remembered(past, seen, demand, policy, placed, corrected)
    new_batches, batch_said = _new_batches(
        replicas, shares, len(past.theta), seen.tick, policy.commands_max
    )
    return Found(
        demand,
        capacity,
        shares,
        now,
        resident_rps(replicas, capacity, len(past.theta)),
        new_batches,
        _new_tables(past, now, replicas, shares),
        batch_said,
        _to_say(past, now, batch_said),
    )


@kernel
def _paused(shares: Shares, replicas: Replicas, seen: Seen) -> Shares:
    """Return the shares in which the replicas of paused models keep what was published."""
    for r in range(len(replicas.model)):
        if replicas.model[r] >= 0 and seen.paused[replicas.model[r]]:
            _keep(r, shares, replicas)
    return shares


@kernel
def _remembered(
    past: Past, seen: Seen, demand: Demand, policy: Policy, placed: bool, corrected: bool
) -> Past:
    models = len(past.theta)
    theta_now, theta_said = past.theta.copy(), past.theta_said.copy()
    recent, mean = past.recent_rps.copy(), past.mean_rps.copy()
    lasting, demand_ms = past.lasting_rps.copy(), past.demand_ms.copy()
    held = np.empty(models, np.bool_)
    blind = not placement.reporting(seen, policy.fleet_stale_ms).any()
    for m in range(models):
        held[m] = blind or not demand.known[m]
        if demand.known[m]:
            recent[m], mean[m] = demand.recent_rps[m], demand.mean_rps[m]
            lasting[m] = demand.now_rps[m] if placed else demand.lasting_rps[m]
            demand_ms[m] = seen.now_ms
            if corrected and not seen.paused[m]:
                theta_now[m] = theta.corrected(theta_now[m], seen.slo_ratio_p98[m], policy)
        theta_said[m] = theta.said(theta_said[m], theta_now[m], policy)
    return Past(
        theta_now,
        theta_said,
        past.target,
        past.low_since_ms,
        recent,
        mean,
        lasting,
        demand_ms,
        held,
        past.short,
    )


@kernel
def _new_batches(
    replicas: Replicas, shares: Shares, models: int, tick: int, commands_max: int
) -> tuple[Ints, Ints]:
    """Return the rows to be told, and of each model the first of them whose batch or wait is new.

    Those beyond `commands_max` keep in `shares` what was published. Each tick begins at another
    row, so that everyone's turn comes.
    """
    count = len(replicas.model)
    rows, found = np.empty(min(count, commands_max), np.int64), 0
    said = np.full(models, -1)
    for i in range(count):
        r = (tick * commands_max + i) % count
        if shares.concurrency[r] < 0:
            continue
        batch = shares.batch_size[r] != replicas.batch_size[r]
        wait = shares.wait_ms[r] != replicas.wait_ms[r]
        if not (batch or wait or shares.serving_share[r] != replicas.serving_share[r]):
            continue
        if found == len(rows):
            _keep(r, shares, replicas)
            continue
        rows[found] = r
        found += 1
        m = replicas.model[r]
        if (batch or wait) and (said[m] < 0 or r < said[m]):
            said[m] = r
    return np.sort(rows[:found]), said


@kernel
def _keep(r: int, shares: Shares, replicas: Replicas) -> None:
    shares.batch_size[r] = replicas.batch_size[r]
    shares.wait_ms[r] = replicas.wait_ms[r]
    shares.serving_share[r] = replicas.serving_share[r]
    shares.concurrency[r] = replicas.concurrency[r]


@kernel
def _new_tables(past: Past, now: Past, replicas: Replicas, shares: Shares) -> Ints:
    new = past.theta != now.theta
    for r in range(len(replicas.model)):
        if replicas.model[r] >= 0 and shares.concurrency[r] != replicas.concurrency[r]:
            new[replicas.model[r]] = True
    models, found = np.empty(len(new), np.int64), 0
    for m in range(len(new)):
        if new[m]:
            models[found] = m
            found += 1
    return models[:found]


@kernel
def _to_say(past: Past, now: Past, batch_said: Ints) -> Ints:
    models, found = np.empty(len(batch_said), np.int64), 0
    for m in range(len(batch_said)):
        held = past.held[m] != now.held[m]
        if held or past.theta_said[m] != now.theta_said[m] or batch_said[m] >= 0:
            models[found] = m
            found += 1
    return models[:found]
