"""One tick: what was seen and remembered goes in; commands, tables and the reasons come out.

`decide` is the whole scheduler: pure, so that a recorded tick can be run again, byte for byte.
Shares move each tick, placement each tenth, theta each fifth (`Policy`).
"""

from typing import NamedTuple

import numpy as np

from libs.common.messages import PlaceReplica, Route, RoutingTable, ScaleModel, SetBatch
from services.scheduler.core import memory, theta
from services.scheduler.core.batches import capacity_rps, full_batch
from services.scheduler.core.contracts import (
    RESIDENT,
    Bools,
    Decision,
    Figures,
    Floats,
    Ints,
    Observation,
    State,
    parts_of,
)
from services.scheduler.core.demand import Demand, demand_of
from services.scheduler.core.explain import Facts, explanations
from services.scheduler.core.placement import (
    Move,
    drains,
    loads,
    nominal_capacity_rps,
    reporting,
)
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas, replicas_of, settle_moves
from services.scheduler.core.shares import Shares, shares_of
from services.scheduler.core.targets import Targets, targets_of


class _Placed(NamedTuple):
    """What the placement loop did; nothing on most ticks."""

    targets: Targets | None
    target: Ints  # of these, what there is or will be: replicas, and places for more
    moves: tuple[Move, ...]
    short: Bools


def decide(state: State, seen: Observation, policy: Policy) -> Decision:
    """Return what the fleet should do now, and what the next tick must remember.

    The same arguments give the same bytes. What was ordered and is under way is not ordered again.
    Raises nothing: messages were validated on their way in.
    """
    before = settle_moves(_carried(state, seen, policy), seen, policy)
    demand = demand_of(before, seen, policy)
    replicas = replicas_of(before, seen, policy)
    placed = _Placed(None, before.target, (), before.short)
    blind = not reporting(seen, policy).any()
    if seen.tick % policy.placement_every_ticks == 0 and not blind:
        placed = _place(before, seen, demand, replicas, policy)
        before = _with_moves(before, placed.moves, seen)
        replicas = replicas_of(before, seen, policy)
    theta_now = before.theta
    if seen.tick % policy.theta_every_ticks == 0:
        measured = np.where(demand.known, seen.slo_ratio_p98, np.nan)
        theta_now = theta.corrected(before.theta, measured, policy)
    limit = _memory_limit(seen, replicas)
    shares = shares_of(seen, demand, replicas, limit, policy)
    after = _after(before, seen, demand, replicas, shares, placed)._replace(
        theta=theta_now,
        theta_said=theta.said(before.theta_said, theta_now, policy),
        held=~demand.known | blind,
    )
    commands = _commands(before, seen, replicas, shares, placed)
    ids: dict[tuple[str, str], tuple[str, ...]] = {}
    for command in commands:
        key = ("batch" if isinstance(command, SetBatch) else "scale", command.model)
        ids[key] = (*ids.get(key, ()), command.id)
    facts = Facts(
        *(before, after, seen, demand, replicas, shares, limit),
        *(placed.targets, placed.moves, ids),
    )
    tables = _tables(state, after, replicas, seen)
    figures = _figures(seen, demand, replicas, limit, policy)
    return Decision(after, commands, tables, explanations(facts, policy), figures)


def _carried(state: State, seen: Observation, policy: Policy) -> State:
    """Return the state with its rows in the order of the models that there are now."""
    index = {name: m for m, name in enumerate(state.models)}
    was = np.array([index.get(name, -1) for name in seen.models], np.int64)
    return state._replace(
        models=seen.models,
        theta=np.append(state.theta, policy.theta_initial)[was],
        theta_said=np.append(state.theta_said, policy.theta_initial)[was],
        target=np.append(state.target, -1)[was],
        low_since_ms=np.append(state.low_since_ms, -1)[was],
        recent_rps=np.append(state.recent_rps, 0.0)[was],
        mean_rps=np.append(state.mean_rps, 0.0)[was],
        lasting_rps=np.append(state.lasting_rps, np.inf)[was],
        demand_ms=np.append(state.demand_ms, 0)[was],
        held=np.append(state.held, False)[was],
        short=np.append(state.short, False)[was],
    )


def _place(
    state: State, seen: Observation, demand: Demand, replicas: Replicas, policy: Policy
) -> _Placed:
    limit, capacity = _capacity(seen, replicas, _memory_limit(seen, replicas), policy)
    nominal = nominal_capacity_rps(seen, policy)
    targets = targets_of(state, seen, demand, replicas, capacity, nominal, policy)
    leaving = drains(targets.target, seen, demand, replicas, limit, policy)[: policy.moves_max]
    coming, short = loads(
        targets.target,
        seen,
        replicas,
        _unreserved(seen, replicas),
        targets.compute_left,
        state.barred,
        policy.moves_max - len(leaving),
        policy,
    )
    count = [len(replicas.of(m)) for m in range(len(seen.models))]
    found = [sum(move.model == model for move in coming) for model in seen.models]
    target = np.minimum(targets.target, np.add(count, found))
    return _Placed(targets, target, (*leaving, *coming), short)


def _capacity(
    seen: Observation, replicas: Replicas, memory_limit: Ints, policy: Policy
) -> tuple[Ints, Floats]:
    """Return the largest batch of each replica by memory and objective, and its rate with it."""
    objective_ms = np.append(seen.objective_ms, np.nan)[replicas.model]
    answer_ms = np.append(seen.answer_ms, np.nan)[replicas.model]
    budget_ms = policy.batch_margin * objective_ms
    within = full_batch(replicas.alpha_ms, replicas.beta_ms, budget_ms, answer_ms)
    limit = np.minimum(memory_limit, within)
    return limit, capacity_rps(replicas.alpha_ms, replicas.beta_ms, limit)


def _figures(
    seen: Observation, demand: Demand, replicas: Replicas, memory_limit: Ints, policy: Policy
) -> Figures:
    _, capacity = _capacity(seen, replicas, memory_limit, policy)
    serving = (replicas.stage == RESIDENT) & (replicas.model >= 0)
    models = replicas.model[serving]
    total_rps = np.bincount(models, weights=capacity[serving], minlength=len(seen.models))
    return Figures(demand.now_rps, demand.foreseen_rps, total_rps.astype(np.float64))


def _reserved(replicas: Replicas) -> Ints:
    return memory.reserved_bytes(replicas.static_bytes, replicas.request_bytes, replicas.room)


def _unreserved(seen: Observation, replicas: Replicas) -> Ints:
    return memory.unreserved(seen, replicas.devices, _reserved(replicas))


def _memory_limit(seen: Observation, replicas: Replicas) -> Ints:
    return memory.batch_limit(
        seen, replicas.devices, replicas.request_bytes, replicas.room, _unreserved(seen, replicas)
    )


def _with_moves(state: State, moves: tuple[Move, ...], seen: Observation) -> State:
    """Return the state in which these moves are on their way; each load keeps the room it got."""
    coming = [move for move in moves if not move.is_drain]
    zeros = np.zeros(len(coming))
    ids = [_id(seen, position) for position in range(len(moves))]
    drains_now = np.array([move.is_drain for move in moves], np.bool_)
    since_ms = np.full(len(moves), seen.now_ms, np.int64)
    return state._replace(
        replicas=(*state.replicas, *(move.replica for move in coming)),
        room=np.append(state.room, np.array([move.room for move in coming], np.int64)),
        batch_size=np.append(state.batch_size, zeros.astype(np.int64)),
        wait_ms=np.append(state.wait_ms, zeros),
        serving_share=np.append(state.serving_share, zeros),
        concurrency=np.append(state.concurrency, zeros.astype(np.int64) - 1),
        moves=(*state.moves, *(move.replica for move in moves)),
        move_ids=(*state.move_ids, *ids),
        move_is_drain=np.append(state.move_is_drain, drains_now),
        move_since_ms=np.append(state.move_since_ms, since_ms),
    )


def _after(
    before: State,
    seen: Observation,
    demand: Demand,
    replicas: Replicas,
    shares: Shares,
    placed: _Placed,
) -> State:
    targets = placed.targets
    lasting_rps = demand.lasting_rps if targets is None else demand.now_rps
    return before._replace(
        target=placed.target,
        low_since_ms=before.low_since_ms if targets is None else targets.low_since_ms,
        recent_rps=np.where(demand.known, demand.recent_rps, before.recent_rps),
        mean_rps=np.where(demand.known, demand.mean_rps, before.mean_rps),
        lasting_rps=np.where(demand.known, lasting_rps, before.lasting_rps),
        demand_ms=np.where(demand.known, seen.now_ms, before.demand_ms),
        short=placed.short,
        replicas=replicas.names,
        room=replicas.room,
        batch_size=shares.batch_size,
        wait_ms=shares.wait_ms,
        serving_share=shares.serving_share,
        concurrency=shares.concurrency,
    )


def _commands(
    before: State, seen: Observation, replicas: Replicas, shares: Shares, placed: _Placed
) -> tuple[PlaceReplica | ScaleModel | SetBatch, ...]:
    """Return what changed, as orders; their ids count up through all three kinds."""
    commands: list[PlaceReplica | ScaleModel | SetBatch] = [
        PlaceReplica(
            id=_id(seen, position),
            replica=move.replica,
            model=move.model,
            node=move.node,
            gpus=move.gpus,
            action="drain" if move.is_drain else "load",
        )
        for position, move in enumerate(placed.moves)
    ]
    for m in np.flatnonzero(placed.target != before.target).tolist():
        target = int(placed.target[m])
        command = ScaleModel(id=_id(seen, len(commands)), model=seen.models[m], replicas=target)
        commands.append(command)
    changed = (shares.concurrency >= 0) & (
        (shares.batch_size != replicas.batch_size)
        | (shares.wait_ms != replicas.wait_ms)
        | (shares.serving_share != replicas.serving_share)
    )
    for r in np.flatnonzero(changed).tolist():
        commands.append(
            SetBatch(
                id=_id(seen, len(commands)),
                replica=replicas.names[r],
                model=seen.models[replicas.model[r]],
                batch_size=int(shares.batch_size[r]),
                wait_ms=float(shares.wait_ms[r]),
                serving_share=float(shares.serving_share[r]),
            )
        )
    return tuple(commands)


def _tables(
    state: State, after: State, replicas: Replicas, seen: Observation
) -> tuple[RoutingTable, ...]:
    """Return the table of every model whose routes or theta are not those published before."""
    was, now = _routes(state), _routes(after)
    theta_was = dict(zip(state.models, state.theta.tolist(), strict=True))
    tables = []
    for model, theta_now in zip(after.models, after.theta.tolist(), strict=True):
        routes = now.get(model, [])
        if theta_was.get(model) == theta_now and was.get(model, []) == routes:
            continue
        tables.append(
            RoutingTable(
                model=model,
                epoch=seen.epoch,
                tick=seen.tick,
                theta=theta_now,
                replicas=tuple(Route(replica=name, concurrency=c) for name, c in routes),
            )
        )
    return tuple(tables)


def _routes(state: State) -> dict[str, list[tuple[str, int]]]:
    routes: dict[str, list[tuple[str, int]]] = {}
    for name, concurrency in zip(state.replicas, state.concurrency.tolist(), strict=True):
        if concurrency >= 0:
            routes.setdefault(parts_of(name)[0], []).append((name, concurrency))
    return routes


def _id(seen: Observation, position: int) -> str:
    return f"{seen.epoch}-{seen.tick}-{position}"
