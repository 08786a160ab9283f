"""A tick's decisions as messages: one for each row that changed, and none for the others."""

import numpy as np

from libs.common.messages import PlaceReplica, Route, RoutingTable, ScaleModel, SetBatch
from services.scheduler.core.contracts import Ints, Observation, State
from services.scheduler.core.heart import Found
from services.scheduler.core.moves import Move
from services.scheduler.core.replicas import Replicas, positions

Command = PlaceReplica | ScaleModel | SetBatch


def command_id(seen: Observation, position: int) -> str:
    """Return the id of the command at this position of a tick."""
    return f"{seen.epoch}-{seen.tick}-{position}"


def placements(seen: Observation, moves: tuple[Move, ...]) -> list[Command]:
    """Return the orders to load and to drain; they come first in a tick."""
    return [
        PlaceReplica(
            id=command_id(seen, position),
            replica=move.replica,
            model=move.model,
            node=move.node,
            gpus=move.gpus,
            action="drain" if move.is_drain else "load",
        )
        for position, move in enumerate(moves)
    ]


def scalings(seen: Observation, before: Ints, after: Ints, position: int) -> list[Command]:
    """Return the targets that are new; `position` is that of the first one."""
    return [
        ScaleModel(id=command_id(seen, position + i), model=seen.models[m], replicas=int(after[m]))
        for i, m in enumerate(np.flatnonzero(after != before).tolist())
    ]


def batches(
    seen: Observation, names: tuple[str, ...], replicas: Replicas, found: Found, position: int
) -> list[Command]:
    """Return the batches, waits and shares that are new; `position` is that of the first one."""
    shares = found.shares
    return [
        SetBatch(
            id=command_id(seen, position + i),
            replica=names[r],
            model=seen.models[replicas.model[r]],
            batch_size=int(shares.batch_size[r]),
            wait_ms=float(shares.wait_ms[r]),
            serving_share=float(shares.serving_share[r]),
        )
        for i, r in enumerate(found.new_batches.tolist())
    ]


def tables(
    seen: Observation, after: State, replicas: Replicas, found: Found, rerouted: set[str]
) -> tuple[RoutingTable, ...]:
    """Return the table of every model whose routes or theta are not those published before.

    `rerouted` are models whose table is new because replicas went.
    """
    at = positions(seen.models)
    new = sorted({*found.new_tables.tolist(), *(at[m] for m in rerouted if m in at)})
    routes = _routes(new, after, replicas) if new else {}
    return tuple(
        RoutingTable(
            model=after.models[m],
            epoch=seen.epoch,
            tick=seen.tick,
            theta=float(after.theta[m]),
            replicas=tuple(routes[m]),
        )
        for m in new
    )


def _routes(models: list[int], after: State, replicas: Replicas) -> dict[int, list[Route]]:
    """Return the routes of these models, in first-fit order."""
    wanted = np.zeros(len(after.models) + 1, np.bool_)  # the last is found by -1
    wanted[models] = True
    routes: dict[int, list[Route]] = {m: [] for m in models}
    for r in np.flatnonzero(wanted[replicas.model] & (after.concurrency >= 0)).tolist():
        route = Route(replica=after.replicas[r], concurrency=int(after.concurrency[r]))
        routes[int(replicas.model[r])].append(route)
    return routes
