"""Where replicas go, and which ones leave: the orders by which the fleet nears its targets.

Memory decides what is possible. Among the places that have it, a new replica prefers one where its
full batches fit, then the one with the fewest neighbours, then the idlest node, then what a
rendezvous hash says, so that the same fleet gives the same answer and few replicas ever move. GPUs
of a wide replica are neighbours, in groups aligned to its width, which leaves no odd gaps.
"""

import math
from typing import NamedTuple

import numpy as np

from services.scheduler.core import memory
from services.scheduler.core.capacity import Capacity, suits
from services.scheduler.core.contracts import DRAINING, RESIDENT, Bools, Floats, Ints, Seen
from services.scheduler.core.demand import Demand
from services.scheduler.core.jit import entry, kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas
from services.scheduler.core.targets import Targets

# A GPU with less of its compute left than this brings a replica nothing but memory to hold.
COMPUTE_MIN = 0.05


class Ground(NamedTuple):
    """What the loads of one tick are laid upon; each load that is placed changes it."""

    reporting: Bools  # D
    left: Ints  # D: bytes that nobody has reserved
    compute_left: Floats  # D
    neighbours: Ints  # D: replicas
    count: Ints  # M: replicas that serve, or will
    stuck: Bools  # M: no place was found


class Places(NamedTuple):
    """The places that a model likes best and equally well; none: nobody needs one any more."""

    model: int
    first: Ints  # (places,): the first device of each
    room: Ints  # (places,): requests whose memory it would reserve there


@entry
def reporting(seen: Seen, fleet_stale_ms: int) -> Bools:
    """Return the devices, (devices,), of nodes that say what is on them."""
    says = np.empty(len(seen.reported_ms), np.bool_)
    for d in range(len(says)):
        fresh = seen.now_ms - seen.reported_ms[d] <= fleet_stale_ms
        says[d] = fresh and seen.memory_free[d] >= 0
    return says


@kernel
def drains(
    target: Ints,
    seen: Seen,
    demand: Demand,
    replicas: Replicas,
    capacity: Capacity,
    util_target: float,
) -> Ints:
    """Return the replicas to drain: at most one of each model above its target, and all unlisted.

    The last replica in the fixed order goes, and only if the rest are shown to carry the demand
    within the utilisation target, and to have memory for every request that is here.
    """
    models = len(target)
    count, last = np.zeros(models, np.int64), np.full(models, -1)
    rest_rps, rest_requests = np.zeros(models), np.zeros(models, np.int64)
    unlisted = 0
    for r in range(len(replicas.model)):
        m, resident = replicas.model[r], replicas.stage[r] == RESIDENT
        unlisted += m < 0 and resident
        if m >= 0 and resident:
            if last[m] >= 0:
                rest_rps[m] += capacity.full_rps[last[m]] * util_target
                rest_requests[m] += capacity.full[last[m]]
            last[m] = r
        if m >= 0 and replicas.stage[r] != DRAINING:
            count[m] += 1
    chosen, found = np.empty(models + unlisted, np.int64), 0
    for m in range(models):
        if count[m] > target[m] and last[m] >= 0 and demand.known[m]:
            carries = rest_rps[m] >= demand.now_rps[m] - 1e-6
            requests = _known(seen.queue_requests[m]) + _known(seen.in_flight_requests[m])
            if carries and rest_requests[m] >= requests:
                chosen[found] = last[m]
                found += 1
    for r in range(len(replicas.model)):
        if replicas.model[r] < 0 and replicas.stage[r] == RESIDENT:
            chosen[found] = r
            found += 1
    return chosen[:found]


@entry
def ground_of(
    seen: Seen, replicas: Replicas, capacity: Capacity, targets: Targets, fleet_stale_ms: int
) -> Ground:
    """Return the ground on which the first load of a tick is laid."""
    neighbours = np.zeros(len(seen.memory_free), np.int64)
    count = np.zeros(len(seen.gpus), np.int64)
    for r in range(len(replicas.model)):
        for d in replicas.devices[r]:
            if d >= 0:
                neighbours[d] += 1
        if replicas.model[r] >= 0 and replicas.stage[r] != DRAINING:
            count[replicas.model[r]] += 1
    return Ground(
        reporting(seen, fleet_stale_ms),
        capacity.unreserved.copy(),
        targets.compute_left.copy(),
        neighbours,
        count,
        np.zeros(len(count), np.bool_),
    )


@entry
def next_load(
    ground: Ground, target: Ints, taken: Ints, seen: Seen, replicas: Replicas, policy: Policy
) -> Places:
    """Return where the next load of the tick may go; notes in `ground.stuck` who found no place.

    The model that has the smallest part of its target gets the next place, so that a fleet that is
    too small is short of everything alike. A replica beyond `replicas_min` goes only where there is
    some compute left. `taken`, (n, 2), are places by model and first device where none may go.
    """
    nowhere = np.zeros(0, np.int64)
    most = _most_left(ground, seen)
    for _ in range(len(target)):
        m = _neediest(ground, target)
        if m < 0:
            break
        first, room = _best(m, most, ground, taken, seen, replicas, policy)
        if len(first) > 0:
            return Places(m, first, room)
        ground.stuck[m] = True
    return Places(-1, nowhere, nowhere)


@entry
def lay(ground: Ground, m: int, first: int, room: int, seen: Seen) -> None:
    """Take a place: its memory, and its compute, as the next tick knows what it really takes."""
    request = memory.per_gpu(seen.request_bytes[m], seen.gpus[m])
    for d in range(first, first + seen.gpus[m]):
        ground.left[d] -= memory.static_bytes(m, seen) + request * room
        ground.neighbours[d] += 1
        ground.compute_left[d] = 0.0
    ground.count[m] += 1


@kernel
def _neediest(ground: Ground, target: Ints) -> int:
    best, least = -1, math.inf
    for m in range(len(target)):
        if ground.count[m] < target[m] and not ground.stuck[m]:
            part = ground.count[m] / max(target[m], 1)
            if part < least:
                best, least = m, part
    return best


@kernel
def _most_left(ground: Ground, seen: Seen) -> Ints:
    """Return the most memory left on a device of each type: of any, and of those with compute."""
    most = np.full((2, seen.alpha_ms.shape[1]), -1)
    for d in range(len(ground.left)):
        if ground.reporting[d]:
            t = seen.device_type[d]
            most[0, t] = max(most[0, t], ground.left[d])
            if ground.compute_left[d] > COMPUTE_MIN:
                most[1, t] = max(most[1, t], ground.left[d])
    return most


@kernel
def _best(
    m: int,
    most: Ints,
    ground: Ground,
    taken: Ints,
    seen: Seen,
    replicas: Replicas,
    policy: Policy,
) -> tuple[Ints, Ints]:
    """Return the places that model m likes best, by first device, and the room on each."""
    width, least_bytes = seen.gpus[m], memory.static_bytes(m, seen)
    request = memory.per_gpu(seen.request_bytes[m], width)
    must = ground.count[m] < seen.replicas_min[m]
    open_type = np.zeros(most.shape[1], np.bool_)
    for t in range(len(open_type)):
        enough = most[0 if must else 1, t] >= least_bytes + request
        open_type[t] = enough and suits(m, t, seen)
    first, room = np.empty(0, np.int64), np.empty(0, np.int64)
    if not open_type.any():
        return first, room  # a full fleet is no reason to look at each of its devices
    closed = _closed(m, taken, len(ground.left), width, replicas)
    first, room = np.empty(len(closed), np.int64), np.empty(len(closed), np.int64)
    found, least = 0, (2, 0, 0)
    for start in range(len(closed) - width + 1):
        aligned = seen.device_gpu[start] % width == 0
        one_node = seen.device_node[start] == seen.device_node[start + width - 1]
        if closed[start] or not aligned or not one_node:
            continue
        asked, left, crowd, may = seen.batch_max[m], ground.left[start], 0, True
        for d in range(start, start + width):
            useful = must or ground.compute_left[d] > COMPUTE_MIN
            if not (useful and ground.reporting[d] and open_type[seen.device_type[d]]):
                may = False
                break
            total, share = seen.memory_total[d], policy.batch_memory_share
            asked = min(asked, memory.allotment(m, total, seen, share))
            left = min(left, ground.left[d])
            crowd = max(crowd, ground.neighbours[d])
        if not may or left < least_bytes + request:
            continue
        has = min(asked, (left - least_bytes) // max(request, 1))
        if has < 1:
            continue
        # In tenths, so that noise does not override the hash; not known is neither good nor bad.
        score = 0.5 if math.isnan(seen.node_score[start]) else seen.node_score[start]
        dislike = (int(has < asked), int(crowd), int(np.rint(10 * score)))
        if dislike < least:
            found, least = 0, dislike
        if dislike == least:
            first[found], room[found] = start, has
            found += 1
    return first[:found], room[:found]


@kernel
def _closed(m: int, taken: Ints, devices: int, width: int, replicas: Replicas) -> Bools:
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
    for k in range(len(taken)):
        if taken[k, 0] == m:
            closed[taken[k, 1]] = True
    return closed


@kernel
def _known(requests: float) -> float:
    return 0.0 if math.isnan(requests) else requests
