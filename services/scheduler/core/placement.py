"""Where replicas go, and which ones leave: the orders by which the fleet nears its targets.

Memory decides what is possible. Among the places that have it, a new replica prefers one where its
full batches fit, then the one with the fewest neighbours, then the idlest node, then what a
rendezvous hash says, so that the same fleet gives the same answer and few replicas ever move. GPUs
of a wide replica are neighbours, in groups aligned to its width, which leaves no odd gaps.
"""

from typing import NamedTuple

import numpy as np

from services.scheduler.core import memory
from services.scheduler.core.batches import capacity_rps, full_batch, service_ms
from services.scheduler.core.contracts import (
    RESIDENT,
    Bools,
    Floats,
    Ints,
    Observation,
    parts_of,
    replica_name,
)
from services.scheduler.core.demand import Demand
from services.scheduler.core.policy import Policy
from services.scheduler.core.rendezvous import preference
from services.scheduler.core.replicas import Replicas

# A GPU with less of its compute left than this brings a replica nothing but memory to hold.
COMPUTE_MIN = 0.05


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


def nominal_capacity_rps(seen: Observation, policy: Policy) -> Floats:
    """Return what one more replica of each model could serve, (models,), on the best device.

    0 where no device suits the model: none has a law for it, or all are too slow for the objective.
    """
    room = np.minimum(memory.allotment(seen, policy), seen.batch_max[:, None])
    alpha, beta = seen.alpha_ms[:, seen.device_type], seen.beta_ms[:, seen.device_type]
    budget_ms = policy.batch_margin * seen.objective_ms[:, None]
    batch = np.minimum(room, full_batch(alpha, beta, budget_ms, seen.answer_ms[:, None]))
    capacity = np.where(_suits(seen), capacity_rps(alpha, beta, batch), 0.0)
    best: Floats = capacity.max(axis=1, initial=0.0)
    return best


def reporting(seen: Observation, policy: Policy) -> Bools:
    """Return the devices, (devices,), of nodes that say what is on them."""
    fresh: Bools = seen.now_ms - seen.reported_ms <= policy.fleet_stale_ms
    return fresh & (seen.memory_free >= 0)


def drains(
    target: Ints,
    seen: Observation,
    demand: Demand,
    replicas: Replicas,
    limit: Ints,
    policy: Policy,
) -> list[Move]:
    """Return at most one drain for each model above its target, and for each that is unlisted.

    The last replica in the fixed order goes, and only if the rest are shown to carry the demand
    within the utilisation target, and to have memory for every request that is here.
    """
    capacity = capacity_rps(replicas.alpha_ms, replicas.beta_ms, limit) * policy.util_target
    requests = np.nan_to_num(seen.queue_requests) + np.nan_to_num(seen.in_flight_requests)
    moves = []
    for m in range(len(seen.models)):
        members = replicas.of(m)
        resident = members[replicas.stage[members] == RESIDENT]
        if len(members) <= target[m] or len(resident) == 0 or not demand.known[m]:
            continue
        rest = resident[:-1]
        carries = capacity[rest].sum() >= demand.now_rps[m] - 1e-6
        if carries and limit[rest].sum() >= requests[m]:
            moves.append(_drain_of(seen, replicas, int(resident[-1])))
    unlisted = np.flatnonzero((replicas.model < 0) & (replicas.stage == RESIDENT))
    return moves + [_drain_of(seen, replicas, int(r)) for r in unlisted]


def loads(
    target: Ints,
    seen: Observation,
    replicas: Replicas,
    left: Ints,
    compute_left: Floats,
    barred: tuple[str, ...],
    moves_max: int,
    policy: Policy,
) -> tuple[list[Move], Bools]:
    """Return the loads that the targets ask for, and which models found no place, (models,).

    `left` is the unreserved memory of each device, `compute_left` what the expected loads leave of
    its compute: a replica beyond `replicas_min` goes only where there is some. The model that has
    the smallest part of its target gets the next place, so that a fleet that is too small is short
    of everything alike.
    """
    left, compute_left = left.copy(), compute_left.copy()
    neighbours = memory.on_devices(
        replicas.devices, np.ones(len(replicas.names), np.int64), len(seen.devices)
    )
    count = np.array([len(replicas.of(m)) for m in range(len(seen.models))], np.int64)
    places = {width: _places(seen, width) for width in set(seen.gpus.tolist())}
    taken = {*replicas.names, *barred}
    stuck = np.zeros(len(seen.models), np.bool_)
    moves: list[Move] = []
    while len(moves) < moves_max and ((count < target) & ~stuck).any():
        part = np.where((count < target) & ~stuck, count / np.maximum(target, 1), np.inf)
        m = int(np.argmin(part))
        useful = (compute_left > COMPUTE_MIN) | (count[m] < seen.replicas_min[m])
        open_places = _open(m, places[int(seen.gpus[m])], useful, seen, taken, policy)
        found = _best(m, open_places, seen, left, neighbours, policy)
        if found is None:
            stuck[m] = True
            continue
        move, devices, taken_bytes = found
        left[devices] -= taken_bytes
        neighbours[devices] += 1
        compute_left[devices] = 0.0  # the next placement tick knows what it really takes
        count[m] += 1
        taken.add(move.replica)
        moves.append(move)
    return moves, stuck


def _open(
    m: int, places: Ints, useful: Bools, seen: Observation, taken: set[str], policy: Policy
) -> Ints:
    """Return the places, (places, width), that model m may take if they have the memory."""
    may = (reporting(seen, policy) & useful & _suits(seen)[m])[places].all(axis=1)
    free = [_load_of(m, seen, place, 1).replica not in taken for place in places]
    chosen: Ints = places[may & np.array(free, np.bool_)]
    return chosen


def _best(
    m: int, places: Ints, seen: Observation, left: Ints, neighbours: Ints, policy: Policy
) -> tuple[Move, Ints, int] | None:
    """Return the load of model m on the place it prefers, its devices, and the bytes it takes."""
    static = -(-int(seen.weights_bytes[m] + seen.activation_bytes[m]) // int(seen.gpus[m]))
    request = -(-int(seen.request_bytes[m]) // int(seen.gpus[m]))
    asked = memory.allotment(seen, policy)[m][places].min(axis=1)
    has = (left[places].min(axis=1) - static) // max(request, 1)
    room = np.minimum(asked, has)
    fits = np.flatnonzero((room >= 1) & (left[places].min(axis=1) >= static + request))
    if len(fits) == 0:
        return None
    cramped = room < asked
    crowd = neighbours[places].max(axis=1)
    # In tenths, so that noise does not override the hash; not known is neither good nor bad.
    busy = np.round(10 * np.nan_to_num(seen.node_score[places[:, 0]], nan=0.5)).astype(np.int64)

    def dislike(c: int) -> tuple[bool, int, int, float]:
        move = _load_of(m, seen, places[c], int(room[c]))
        weight = float(seen.memory_total[places[c][0]])
        liked = preference(move.model, move.replica, weight)
        return bool(cramped[c]), int(crowd[c]), int(busy[c]), -liked

    best = min(fits.tolist(), key=dislike)
    move = _load_of(m, seen, places[best], int(room[best]))
    return move, places[best], static + request * move.room


def _places(seen: Observation, width: int) -> Ints:
    """Return the aligned groups of `width` GPUs of one node, (groups, width)."""
    groups = []
    for start in range(0, len(seen.devices) - width + 1):
        group = range(start, start + width)
        aligned = int(seen.device_gpu[start]) % width == 0
        if aligned and seen.device_node[group[0]] == seen.device_node[group[-1]]:
            groups.append(list(group))
    return np.array(groups, np.int64).reshape(len(groups), width)


def _suits(seen: Observation) -> Bools:
    """Return whether a device is fast enough for a model, (models, devices)."""
    alpha, beta = seen.alpha_ms[:, seen.device_type], seen.beta_ms[:, seen.device_type]
    allowed_ms = np.where(np.isnan(seen.answer_ms), seen.objective_ms, seen.answer_ms)
    fast: Bools = service_ms(alpha, beta, np.array(1)) <= allowed_ms[:, None]
    return fast


def _load_of(m: int, seen: Observation, devices: Ints, room: int) -> Move:
    node = seen.device_node[devices[0]]
    gpus = seen.device_gpu[devices].tolist()
    name = replica_name(seen.models[m], node, gpus)
    return Move(name, seen.models[m], node, tuple(gpus), room)


def _drain_of(seen: Observation, replicas: Replicas, r: int) -> Move:
    devices = replicas.devices[r][replicas.devices[r] >= 0]
    model = parts_of(replicas.names[r])[0]
    gpus = tuple(seen.device_gpu[devices].tolist())
    return Move(replicas.names[r], model, seen.device_node[devices[0]], gpus, 0)
