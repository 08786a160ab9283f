"""GPU memory: what each replica reserves, so that nothing ever allocates above a GPU's capacity.

A replica reserves its weights, its activations and the memory of its largest batch (its room) from
the moment it is ordered until it is gone; what strangers hold on a GPU is left to
them. Batches grow and shrink inside their room, so no two of them can
meet in the same bytes. A training job gives way, so its memory counts as free.
"""

import math

import numpy as np

from services.scheduler.core.contracts import Floats, Ints, Seen
from services.scheduler.core.jit import kernel


@kernel
def per_gpu(whole: int, gpus: int) -> int:
    """Return the part of one GPU, rounded up."""
    return -(-whole // gpus)


@kernel
def static_bytes(m: int, seen: Seen) -> int:
    """Return what a replica of a model takes of each of its GPUs before any request."""
    return per_gpu(seen.weights_bytes[m] + seen.activation_bytes[m], seen.gpus[m])


@kernel
def allotment(m: int, total_bytes: int, seen: Seen, share: float) -> int:
    """Return the room that a new replica of a model asks for on GPUs of this size, at least 1.

    The model's largest batch, but only a `share` of a GPU, and never more than an empty one has.
    """
    total = max(total_bytes, 0)
    of_batches = min(total - static_bytes(m, seen), int(total * share))
    room = of_batches * seen.gpus[m] // max(seen.request_bytes[m], 1)
    return min(max(room, 1), seen.batch_max[m])


@kernel
def unreserved(seen: Seen, devices: Ints, static: Ints, request: Ints, room: Ints) -> Ints:
    """Return what is left on each device, (devices,); below 0 where others took what was reserved.

    `devices` (replicas, widest), and what replicas reserve on each of theirs, (replicas,), are of
    all that are or will be. A device that was never reported on has nothing left.
    """
    left = seen.memory_free.copy()
    for r in range(len(seen.replica_devices)):
        width = 0
        for d in seen.replica_devices[r]:
            width += d >= 0
        held = per_gpu(seen.replica_memory_bytes[r], max(width, 1))
        for d in seen.replica_devices[r]:
            if d >= 0:
                left[d] += held
    for r in range(len(devices)):
        for d in devices[r]:
            if d >= 0:
                left[d] -= static[r] + request[r] * room[r]
    for d in range(len(left)):
        if seen.memory_free[d] < 0:
            left[d] = -1
    return left


@kernel
def batch_limit(seen: Seen, devices: Ints, request: Ints, room: Ints, left: Ints) -> Ints:
    """Return the largest batch of each replica, (replicas,): its room, and less where memory lacks.

    Where others took memory that was reserved, all batches on that device give way in proportion.
    One request is always allowed: a replica that may run none would hold its memory for nothing.
    """
    kept = _kept(seen, devices, request, room, left)
    limit = np.empty(len(devices), np.int64)
    for r in range(len(devices)):
        least = 1.0
        for d in devices[r]:
            if d >= 0:
                least = min(least, kept[d])
        limit[r] = max(math.floor(room[r] * least), 1)
    return limit


@kernel
def _kept(seen: Seen, devices: Ints, request: Ints, room: Ints, left: Ints) -> Floats:
    """Return the part of the memory of its batches that each device still has."""
    of_batches = np.zeros(len(left), np.int64)
    for r in range(len(devices)):
        for d in devices[r]:
            if d >= 0:
                of_batches[d] += request[r] * room[r]
    kept = np.ones(len(left))
    for d in range(len(left)):
        if seen.memory_free[d] >= 0 and left[d] < 0:
            kept[d] = max(1.0 + left[d] / max(of_batches[d], 1), 0.0)
    return kept
