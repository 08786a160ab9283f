"""First fit: which replicas, in their fixed order, a load needs, and how full each of them gets.

This is what the router does request by request, seen from above. GPUs are shared: what one model's
replica takes of a GPU's compute, the next model's replica on it does not get.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import Floats, Ints

# Float noise must not wake a replica.
NOISE_RPS = 1e-6


class Fill(NamedTuple):
    """How a load spreads."""

    used: Floats  # (replicas,): part of its GPUs' compute, at most the utilisation target
    needed: Ints  # (models,): replicas up to the last one in use
    lacking_rps: Floats  # (models,): load that no replica could take
    left: Floats  # (devices,): compute that may still be used


def fill(
    load_rps: Floats,
    capacity_rps: Floats,
    members: Sequence[Ints],
    devices: Ints,
    left: Floats,
) -> Fill:
    """Give each model's load, (models,), to its replicas in order; NaN asks for nothing.

    `members` holds the indices of each model's usable replicas; `capacity_rps` and `devices`,
    padded with -1, are of all replicas; `left` is the compute of each device that may be used. More
    load never needs fewer replicas.
    """
    spare = [*left.tolist(), float("inf")]  # what -1 finds: a narrower replica is bounded by less
    capacity, places = capacity_rps.tolist(), devices.tolist()
    used = np.zeros(len(capacity))
    needed = np.zeros(len(load_rps), np.int64)
    lacking = np.nan_to_num(load_rps)
    for m, rest in enumerate(lacking.tolist()):
        for position, r in enumerate(members[m].tolist()):
            if rest <= NOISE_RPS:
                break
            part = min(rest / capacity[r] if capacity[r] else 0.0, *(spare[d] for d in places[r]))
            if part <= 0:
                continue
            for d in places[r]:
                spare[d] -= part
            rest -= part * capacity[r]
            used[r] = part
            needed[m] = position + 1
        lacking[m] = rest if rest > NOISE_RPS else 0.0
    return Fill(used, needed, lacking, np.array(spare[:-1]))
