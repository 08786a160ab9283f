"""The orders of a placement tick by their names: which replica is loaded where, or drained."""

from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import (
    Ints,
    Observation,
    parts_of,
    replica_name,
)
from services.scheduler.core.placement import Digests, Loads
from services.scheduler.core.rendezvous import digests
from services.scheduler.core.replicas import Replicas, positions


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


def loads(chosen: Loads, seen: Observation) -> list[Move]:
    """Return the orders to load."""
    rows = zip(chosen.model.tolist(), chosen.first.tolist(), chosen.room.tolist(), strict=True)
    return [_load_of(m, first, room, seen) for m, first, room in rows]


def digests_of(barred: tuple[str, ...], seen: Observation) -> Digests:
    """Return what the search for places knows of names; what is gone bars nothing."""
    places = []
    for name in barred:
        model, node, gpus = parts_of(name)
        m = positions(seen.models).get(model, -1)
        first = positions(seen.devices).get(f"{node}/{gpus[0]}", -1)
        if m >= 0 and first >= 0 and len(gpus) == seen.gpus[m]:
            places.append((m, first))
    return Digests(
        digests(seen.models),
        digests(seen.devices),
        np.array(places, np.int64).reshape(len(places), 2),
    )


def _load_of(m: int, first: int, room: int, seen: Observation) -> Move:
    devices = slice(first, first + int(seen.gpus[m]))
    node, gpus = seen.nodes[seen.device_node[first]], seen.device_gpu[devices].tolist()
    name = replica_name(seen.models[m], node, gpus)
    return Move(name, seen.models[m], node, tuple(gpus), room)


def _drain_of(r: int, name: str, replicas: Replicas, seen: Observation) -> Move:
    devices = replicas.devices[r][replicas.devices[r] >= 0]
    node = seen.nodes[seen.device_node[devices[0]]]
    return Move(name, parts_of(name)[0], node, tuple(seen.device_gpu[devices].tolist()), 0)
