"""The orders of a placement tick by their names: which replica is loaded where, or drained."""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import placement
from services.scheduler.core.capacity import Capacity
from services.scheduler.core.contracts import (
    Bools,
    Ints,
    Observation,
    Seen,
    parts_of,
    replica_name,
)
from services.scheduler.core.policy import Policy
from services.scheduler.core.rendezvous import preference
from services.scheduler.core.replicas import Replicas, positions
from services.scheduler.core.targets import Targets


class Move(NamedTuple):
    """One order: load a replica, or drain it, which ends in its unloading."""

    replica: str
    model: str
    node: str
    gpus: tuple[int, ...]
    room: int  # requests whose memory a load reserves; 0 for a drain

    @property
    def is_drain(self) -> bool:
        """Whether it leaves."""
        return self.room == 0


def drains(
    chosen: Ints, names: tuple[str, ...], replicas: Replicas, seen: Observation
) -> list[Move]:
    """Return the orders to drain the replicas of these rows."""
    return [_drain_of(r, names[r], replicas, seen) for r in chosen.tolist()]


def loads(
    targets: Targets,
    observation: Observation,
    seen: Seen,
    replicas: Replicas,
    capacity: Capacity,
    barred: tuple[str, ...],
    moves_max: int,
    policy: Policy,
) -> tuple[list[Move], Ints, Bools]:
    """Return the loads that the targets ask for, at most `moves_max`.

    And, (models,), the replicas that there are or will be, and whether one found no place.
    """
    ground = placement.ground_of(seen, replicas, capacity, targets, policy.fleet_stale_ms)
    taken = _taken(barred, observation)
    moves: list[Move] = []
    while len(moves) < moves_max:
        places = placement.next_load(ground, targets.target, taken, seen, replicas, policy)
        if places.model < 0:
            break
        m, first, room = _preferred(places, observation)
        placement.lay(ground, m, first, room, seen)
        taken = np.append(taken, [[m, first]], axis=0)
        moves.append(_load_of(m, first, room, observation))
    return moves, ground.count, ground.stuck


def _taken(barred: tuple[str, ...], seen: Observation) -> Ints:
    """Return the barred places, (n, 2), by model and first device; what is gone bars nothing."""
    found = []
    for name in barred:
        model, node, gpus = parts_of(name)
        m = positions(seen.models).get(model, -1)
        first = positions(seen.devices).get(f"{node}/{gpus[0]}", -1)
        if m >= 0 and first >= 0 and len(gpus) == seen.gpus[m]:
            found.append((m, first))
    return np.array(found, np.int64).reshape(len(found), 2)


def _preferred(places: placement.Places, seen: Observation) -> tuple[int, int, int]:
    """Return model, first device and room of the place that the hash prefers."""
    m = places.model
    best, most = 0, -np.inf
    for c, first in enumerate(places.first.tolist()):
        move = _load_of(m, first, 1, seen)
        liked = preference(move.model, move.replica, float(seen.memory_total[first]))
        if liked > most:
            best, most = c, liked
    return m, int(places.first[best]), int(places.room[best])


def _load_of(m: int, first: int, room: int, seen: Observation) -> Move:
    devices = slice(first, first + int(seen.gpus[m]))
    node, gpus = seen.nodes[seen.device_node[first]], seen.device_gpu[devices].tolist()
    name = replica_name(seen.models[m], node, gpus)
    return Move(name, seen.models[m], node, tuple(gpus), room)


def _drain_of(r: int, name: str, replicas: Replicas, seen: Observation) -> Move:
    devices = replicas.devices[r][replicas.devices[r] >= 0]
    node = seen.nodes[seen.device_node[devices[0]]]
    return Move(name, parts_of(name)[0], node, tuple(seen.device_gpu[devices].tolist()), 0)
