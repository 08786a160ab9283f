"""Where replicas go: the loads by which the fleet nears its targets.

Memory decides what is possible. Among the places that have it, a new replica prefers one where its
full batches fit, then the one with the fewest neighbours, then the idlest node, then what a
rendezvous hash says, so that the same fleet gives the same answer and few replicas ever move. GPUs
of a wide replica are neighbours, in groups aligned to its width, which leaves no odd gaps.

What the targets ask for comes first; then standbys fill what memory is left (`standbys.py`).
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.scheduler.core import memory, standbys
from services.scheduler.core.capacity import Capacity, suits
from services.scheduler.core.contracts import DRAINING, OPEN, Bools, Floats, Ints, Seen
from services.scheduler.core.drains import is_evicted
from services.scheduler.core.jit import entry, kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.rendezvous import preference
from services.scheduler.core.replicas import Replicas
from services.scheduler.core.targets import Targets

# A GPU with less of its compute left than this brings a replica nothing but memory to hold.
COMPUTE_MIN = 0.05
NO_PLACE, NO_MEMORY = -1, -2


class Digests(NamedTuple):
    """What the hash knows of names; and the places that may not be tried now."""

    models: npt.NDArray[np.uint64]  # M
    devices: npt.NDArray[np.uint64]  # D
    barred: Ints  # (n, 2): model and first device


class Loads(NamedTuple):
    """The loads of one tick in order, K, and what the models then have, M."""

    model: Ints  # K
    first: Ints  # K: the first of its devices
    room: Ints  # K: requests whose memory it reserves
    held: Ints  # M: replicas that there are or will be
    stuck: Bools  # M: no place was found
    crowded: Bools  # M: of these, where memory alone was lacking


class _Ground(NamedTuple):
    """What the loads are laid upon; each one changes it."""

    reporting: Bools  # D: and open to new replicas
    left: Ints  # D: bytes that nobody has reserved
    compute_left: Floats  # D
    neighbours: Ints  # D: replicas
    held: Ints  # M: replicas that serve, or will
    most_left: Ints  # 2 x T: bytes on a device, of any and of those with compute, or a bit less


@entry
def reporting(seen: Seen, fleet_stale_ms: int) -> Bools:
    """Return the devices, (devices,), of nodes that say what is on them."""
    says = np.empty(len(seen.reported_ms), np.bool_)
    for d in range(len(says)):
        fresh = seen.now_ms - seen.reported_ms[d] <= fleet_stale_ms
        says[d] = fresh and seen.memory_free[d] >= 0
    return says


@kernel
def loads(
    targets: Targets,
    digests: Digests,
    seen: Seen,
    replicas: Replicas,
    capacity: Capacity,
    moves_max: int,
    policy: Policy,
) -> Loads:
    """Return the loads that the targets ask for, and then those of standbys, at most `moves_max`.

    The model that has the smallest part of its target gets the next place, so that a fleet that is
    too small is short of everything alike. A replica beyond `replicas_min` goes only where there is
    some compute left. Of standbys the next is of the model that is covered the fewest times, and
    while a model is short there are none.
    """
    ground, target = _ground(seen, replicas, capacity, targets, policy), targets.target
    stuck, crowded = np.zeros(len(target), np.bool_), np.zeros(len(target), np.bool_)
    laid = Loads(
        np.empty(moves_max, np.int64),
        np.empty(moves_max, np.int64),
        np.empty(moves_max, np.int64),
        ground.held,
        stuck,
        crowded,
    )
    waiting = [
        (ground.held[m] / target[m], m)
        for m in range(len(target))
        if ground.held[m] < target[m] and not seen.paused[m]
    ]
    heapq.heapify(waiting)
    found = 0
    while len(waiting) > 0 and found < moves_max:
        _, m = heapq.heappop(waiting)
        if not _lay_next(laid, found, m, False, digests, ground, replicas, seen, policy):
            stuck[m] = True
            continue
        found += 1
        if ground.held[m] < target[m]:
            heapq.heappush(waiting, (ground.held[m] / target[m], m))
    if len(waiting) == 0 and not stuck.any() and policy.standby_memory_share > 0:
        covered = [
            (standbys.cover(m, ground.held[m], targets), m)
            for m in range(len(target))
            if standbys.may_have_more(m, ground.held[m], targets, seen)
        ]
        heapq.heapify(covered)
        while len(covered) > 0 and found < moves_max:
            _, m = heapq.heappop(covered)
            if _lay_next(laid, found, m, True, digests, ground, replicas, seen, policy):
                found += 1
                if standbys.may_have_more(m, ground.held[m], targets, seen):
                    heapq.heappush(covered, (standbys.cover(m, ground.held[m], targets), m))
    return Loads(
        laid.model[:found], laid.first[:found], laid.room[:found], ground.held, stuck, crowded
    )


@kernel
def _lay_next(
    laid: Loads,
    found: int,
    m: int,
    stands_by: bool,
    digests: Digests,
    ground: _Ground,
    replicas: Replicas,
    seen: Seen,
    policy: Policy,
) -> bool:
    """Lay a load of model m where it likes best; False where there is no place."""
    closed = _closed(m, digests.barred, len(ground.left), seen.gpus[m], replicas)
    for k in range(found):
        if laid.model[k] == m:
            closed[laid.first[k]] = True
    place, room = _best(m, closed, stands_by, digests, ground, seen, policy)
    if place < 0:
        laid.crowded[m] = place == NO_MEMORY and not stands_by
        return False
    _lay(ground, m, place, room, seen)
    laid.model[found], laid.first[found], laid.room[found] = m, place, room
    return True


@kernel
def _ground(
    seen: Seen, replicas: Replicas, capacity: Capacity, targets: Targets, policy: Policy
) -> _Ground:
    """Return the ground on which the first load of a tick is laid."""
    neighbours = np.zeros(len(seen.memory_free), np.int64)
    held = np.zeros(len(seen.gpus), np.int64)
    for r in range(len(replicas.model)):
        for d in replicas.devices[r]:
            if d >= 0:
                neighbours[d] += 1
        # What a person wants gone is to be replaced before it leaves.
        stays = replicas.stage[r] != DRAINING and not is_evicted(r, replicas, seen)
        if replicas.model[r] >= 0 and stays:
            held[replicas.model[r]] += 1
    says = reporting(seen, policy.fleet_stale_ms) & (seen.closed == OPEN)
    most = np.full((2, seen.alpha_ms.shape[1]), -1)
    for d in range(len(says)):
        if says[d]:
            t, left = seen.device_type[d], capacity.unreserved[d]
            most[0, t] = max(most[0, t], left)
            if targets.compute_left[d] > COMPUTE_MIN:
                most[1, t] = max(most[1, t], left)
    return _Ground(
        says, capacity.unreserved.copy(), targets.compute_left.copy(), neighbours, held, most
    )


@kernel
def _lay(ground: _Ground, m: int, first: int, room: int, seen: Seen) -> None:
    """Take a place: its memory, and its compute, as the next tick knows what it really takes."""
    request = memory.per_gpu(seen.request_bytes[m], seen.gpus[m])
    for d in range(first, first + seen.gpus[m]):
        ground.left[d] -= memory.static_bytes(m, seen) + request * room
        ground.neighbours[d] += 1
        ground.compute_left[d] = 0.0
    ground.held[m] += 1


@kernel
def _best(
    m: int,
    closed: Bools,
    stands_by: bool,
    digests: Digests,
    ground: _Ground,
    seen: Seen,
    policy: Policy,
) -> tuple[int, int]:
    """Return the place that model m likes best, by its first device, and its room.

    NO_PLACE where there is none, or NO_MEMORY where it is only memory that one lacks.
    """
    width, static = seen.gpus[m], memory.static_bytes(m, seen)
    request = memory.per_gpu(seen.request_bytes[m], width)
    must = stands_by or ground.held[m] < seen.replicas_min[m]
    most_left = ground.most_left[0 if must else 1]
    open_type = _open_types(m, static + request, most_left, seen)
    best, best_room, liked, least = _no_place(m, open_type, most_left, seen), 0, -1.0, (2, 0, 0)
    if not open_type.any():
        return best, best_room  # a full fleet is no reason to look at each of its devices
    for start in range(len(closed) - width + 1):
        aligned = seen.device_gpu[start] % width == 0
        one_node = seen.device_node[start] == seen.device_node[start + width - 1]
        if closed[start] or not aligned or not one_node:
            continue
        asked, left, crowd = seen.batch_max[m], ground.left[start], 0
        for d in range(start, start + width):
            useful = must or ground.compute_left[d] > COMPUTE_MIN
            if not (useful and ground.reporting[d] and open_type[seen.device_type[d]]):
                left = -1
                break
            total, share = seen.memory_total[d], policy.batch_memory_share
            asked = min(asked, memory.allotment(m, total, seen, share))
            reserve = standbys.reserve_bytes(d, seen, policy) if stands_by else 0
            left = min(left, ground.left[d] - reserve)
            crowd = max(crowd, ground.neighbours[d])
        if left < static + request:
            best = NO_MEMORY if best == NO_PLACE and left >= 0 else best
            continue
        room = min(asked, (left - static) // max(request, 1))
        dislike = (int(room < asked), int(crowd), _busy(seen.node_score[start]))
        if dislike > least or room < 1:
            continue
        weight = float(seen.memory_total[start])
        like = preference(digests.models[m], digests.devices[start], weight)
        if best < 0 or dislike < least or like > liked:
            best, best_room, liked, least = start, room, like, dislike
    return best, best_room


@kernel
def _no_place(m: int, open_type: Bools, most_left: Ints, seen: Seen) -> int:
    """Return NO_MEMORY where a type would do of which no device has the memory."""
    for t in range(len(open_type)):
        if not open_type[t] and most_left[t] >= 0 and suits(m, t, seen):
            return NO_MEMORY
    return NO_PLACE


@kernel
def _open_types(m: int, least_bytes: int, most_left: Ints, seen: Seen) -> Bools:
    """Return the device types fast enough for model m of which one may have the memory."""
    found = np.zeros(len(most_left), np.bool_)
    for t in range(len(found)):
        found[t] = most_left[t] >= least_bytes and suits(m, t, seen)
    return found


@kernel
def _busy(score: float) -> int:
    # In tenths, so that noise does not override the hash; not known is neither good nor bad.
    return 5 if math.isnan(score) else int(np.rint(10 * score))


@kernel
def _closed(m: int, barred: Ints, devices: int, width: int, replicas: Replicas) -> Bools:
    """Return where a replica of model m would have the name of one that there is, or is barred."""
    closed = np.zeros(devices, np.bool_)
    for r in range(len(replicas.model)):
        if replicas.model[r] == m:
            of_width = 0
            for d in replicas.devices[r]:
                of_width += d >= 0
            # In a group, devices follow each other, as those of a replica that stands there do.
            first, last = replicas.devices[r, 0], replicas.devices[r, of_width - 1]
            if of_width == width and last == first + width - 1:
                closed[first] = True
    for k in range(len(barred)):
        if barred[k, 0] == m:
            closed[barred[k, 1]] = True
    return closed
