"""GPU memory: what each replica reserves, so that nothing ever allocates above a GPU's capacity.

A replica reserves its weights, its activations and the memory of its largest batch (its room) from
the moment it is ordered until it is gone; what strangers hold on a GPU is left to
them. Batches grow and shrink inside their room, so no two of them can
meet in the same bytes. A training job gives way, so its memory counts as free.
"""

import numpy as np

from services.scheduler.core.contracts import Ints, Observation
from services.scheduler.core.policy import Policy


def allotment(seen: Observation, policy: Policy) -> Ints:
    """Return the room that a new replica asks for, (models, devices), at least 1.

    The model's largest batch, but only a part of a GPU, and never more than an empty one has.
    """
    total = np.maximum(seen.memory_total, 0)[None, :]
    gpus = seen.gpus[:, None]
    static = -(-(seen.weights_bytes + seen.activation_bytes) // seen.gpus)[:, None]
    of_batches = np.minimum(total - static, (total * policy.batch_memory_share).astype(np.int64))
    room = of_batches * gpus // np.maximum(seen.request_bytes, 1)[:, None]
    allotted: Ints = np.clip(room, 1, seen.batch_max[:, None])
    return allotted


def reserved_bytes(static_bytes: Ints, request_bytes: Ints, room: Ints) -> Ints:
    """Return what replicas reserve on each of their devices."""
    return static_bytes + request_bytes * room


def unreserved(seen: Observation, devices: Ints, reserved: Ints) -> Ints:
    """Return what is left on each device, (devices,); below 0 where others took what was reserved.

    `devices` (replicas, widest) and `reserved` (replicas,) are those of all replicas. A device that
    was never reported on has nothing left.
    """
    width = np.maximum((seen.replica_devices >= 0).sum(axis=1), 1)
    ours = seen.memory_free + on_devices(
        seen.replica_devices, -(-seen.replica_memory_bytes // width), len(seen.devices)
    )
    left = ours - on_devices(devices, reserved, len(seen.devices))
    return np.where(seen.memory_free < 0, -1, left)


def batch_limit(seen: Observation, devices: Ints, request: Ints, room: Ints, left: Ints) -> Ints:
    """Return the largest batch of each replica, (replicas,): its room, and less where memory lacks.

    Where others took memory that was reserved, all batches on that device give way in proportion.
    One request is always allowed: a replica that may run none would hold its memory for nothing.
    """
    of_batches = on_devices(devices, request * room, len(seen.devices))
    lacking = np.where(seen.memory_free < 0, 0, np.maximum(-left, 0))
    kept = np.clip(1.0 - lacking / np.maximum(of_batches, 1), 0.0, 1.0)
    least = np.append(kept, 1.0)[devices].min(axis=1, initial=1.0)
    batch: Ints = np.maximum(np.floor(room * least), 1).astype(np.int64)
    return batch


def on_devices(devices: Ints, amount: Ints, count: int) -> Ints:
    """Sum `amount` (replicas,) over the devices (replicas, widest) that each replica takes."""
    total = np.zeros(count + 1, np.int64)  # the last one collects the -1 of narrower replicas
    np.add.at(total, devices, amount[:, None])
    summed: Ints = total[:-1]
    return summed
