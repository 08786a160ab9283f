"""One tick: what was seen and remembered goes in; commands, tables and the reasons come out.

`decide` is the whole scheduler: pure, so that a recorded tick can be run again, byte for byte.
Shares move each tick, placement each tenth, theta each fifth (`Policy`). Its numbers are made by
the kernels of `heart.py`; here names are carried along, and what changed becomes messages.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import commands, heart, moves
from services.scheduler.core.carry import carried, rerouted
from services.scheduler.core.contracts import (
    Bools,
    Decision,
    Figures,
    Ints,
    Observation,
    Past,
    Seen,
    State,
    past_of,
    seen_of,
)
from services.scheduler.core.explain import Facts, explanations
from services.scheduler.core.foreign import foreign
from services.scheduler.core.moves import Move
from services.scheduler.core.placement import reporting
from services.scheduler.core.policy import Policy, typed
from services.scheduler.core.replicas import Replicas, replicas_of, settle_moves
from services.scheduler.core.targets import Targets


class _Placed(NamedTuple):
    """What the placement loop did."""

    targets: Targets
    target: Ints  # of these, what there is or will be: replicas, and places for more
    moves: tuple[Move, ...]
    short: Bools


def decide(state: State, seen: Observation, policy: Policy) -> Decision:
    """Return what the fleet should do now, and what the next tick must remember.

    The same arguments give the same bytes. What was ordered and is under way is not ordered again.
    Raises nothing: messages were validated on their way in.
    """
    policy, rows = typed(policy), seen_of(seen)
    unexplained = foreign(state, seen)
    before = settle_moves(carried(state, seen, policy), seen, policy)
    names, replicas = replicas_of(before, seen)
    others = rerouted(state, seen.models, names)
    past, placed = past_of(before), None
    placing = seen.tick % policy.placement_every_ticks == 0
    if placing and not seen.all_paused and reporting(rows, policy.fleet_stale_ms).any():
        placed = _place(before, past, seen, rows, names, replicas, policy)
        past = past._replace(
            target=placed.target, low_since_ms=placed.targets.low_since_ms, short=placed.short
        )
        before = _with_moves(before, placed.moves, seen)
        names, replicas = replicas_of(before, seen)
    correcting = seen.tick % policy.theta_every_ticks == 0
    found = heart.share(past, rows, replicas, policy, placed is not None, correcting)
    after = _after(before, seen, names, found)
    ordered = _commands(before, seen, names, replicas, placed, found)
    targets, moved = (placed.targets, placed.moves) if placed else (None, ())
    facts = Facts(before, after, seen, replicas, found, targets, moved, ordered, unexplained)
    why = explanations(facts, policy)
    demand = found.demand
    figures = Figures(demand.now_rps, demand.foreseen_rps, found.resident_rps)
    tables = commands.tables(seen, after, replicas, found, others)
    return Decision(after, tuple(ordered), tables, why, figures)


def _place(
    state: State,
    past: Past,
    seen: Observation,
    rows: Seen,
    names: tuple[str, ...],
    replicas: Replicas,
    policy: Policy,
) -> _Placed:
    plan = heart.plan(past, rows, replicas, moves.digests_of(state.barred, seen), policy)
    leaving = moves.drains(plan.drains, names, replicas, seen)
    coming = moves.loads(plan.loads, seen)
    target = np.minimum(plan.targets.target, plan.loads.held)
    kept, low_since_ms = np.where(seen.paused, past.target, target), plan.targets.low_since_ms
    targets = plan.targets._replace(low_since_ms=np.where(seen.paused, -1, low_since_ms))
    changed = np.roll(np.flatnonzero(kept != past.target), -seen.tick)
    late = changed[policy.commands_max :]
    kept[late] = past.target[late]
    short = np.where(seen.paused, past.short, plan.loads.stuck)
    return _Placed(targets, kept, (*leaving, *coming), short)


def _with_moves(state: State, ordered: tuple[Move, ...], seen: Observation) -> State:
    """Return the state in which these moves are on their way; each load keeps the room it got."""
    if not ordered:
        return state
    coming = [move for move in ordered if not move.is_drain]
    zeros = np.zeros(len(coming))
    ids = [commands.command_id(seen, position) for position in range(len(ordered))]
    drains_now = np.array([move.is_drain for move in ordered], np.bool_)
    since_ms = np.full(len(ordered), seen.now_ms, np.int64)
    return state._replace(
        replicas=(*state.replicas, *(move.replica for move in coming)),
        room=np.append(state.room, np.array([move.room for move in coming], np.int64)),
        batch_size=np.append(state.batch_size, zeros.astype(np.int64)),
        wait_ms=np.append(state.wait_ms, zeros),
        serving_share=np.append(state.serving_share, zeros),
        concurrency=np.append(state.concurrency, zeros.astype(np.int64) - 1),
        moves=(*state.moves, *(move.replica for move in ordered)),
        move_ids=(*state.move_ids, *ids),
        move_is_drain=np.append(state.move_is_drain, drains_now),
        move_since_ms=np.append(state.move_since_ms, since_ms),
    )


def _after(before: State, seen: Observation, names: tuple[str, ...], found: heart.Found) -> State:
    shares = found.shares
    return State(
        before.models,
        *found.past,
        names,
        found.capacity.room,
        *(shares.batch_size, shares.wait_ms, shares.serving_share, shares.concurrency),
        *(before.moves, before.move_ids, before.move_is_drain, before.move_since_ms),
        *(before.barred, before.barred_until_ms, seen.overrides),
    )


def _commands(
    before: State,
    seen: Observation,
    names: tuple[str, ...],
    replicas: Replicas,
    placed: _Placed | None,
    found: heart.Found,
) -> list[commands.Command]:
    ordered: list[commands.Command] = []
    if placed is not None:
        ordered += commands.placements(seen, placed.moves)
        ordered += commands.scalings(seen, before.target, placed.target, len(ordered))
    return ordered + commands.batches(seen, names, replicas, found, len(ordered))
