"""First fit: which replicas, in their fixed order, a load needs, and how full each of them gets.

This is what the router does request by request, seen from above. GPUs are shared: what one model's
replica takes of a GPU's compute, the next model's replica on it does not get.
"""

import math
from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import Bools, Floats, Ints
from services.scheduler.core.jit import entry

# Float noise must not wake a replica.
NOISE_RPS = 1e-6


class Members(NamedTuple):
    """The usable replicas of each model, in order: of m, `row[first[m] : first[m + 1]]`."""

    first: Ints  # (models + 1,)
    row: Ints


class Fill(NamedTuple):
    """How a load spreads."""

    used: Floats  # (replicas,): part of its GPUs' compute, at most the utilisation target
    needed: Ints  # (models,): replicas up to the last one in use
    lacking_rps: Floats  # (models,): load that no replica could take
    left: Floats  # (devices,): compute that may still be used


@entry
def members_of(model: Ints, usable: Bools, models: int) -> Members:
    """Sort the usable replicas by model; `model`, (replicas,), is that of each, -1: of none."""
    first = np.zeros(models + 1, np.int64)
    for r in range(len(model)):
        if usable[r] and model[r] >= 0:
            first[model[r] + 1] += 1
    for m in range(models):
        first[m + 1] += first[m]
    row = np.empty(first[models], np.int64)
    end = first[:-1].copy()
    for r in range(len(model)):
        if usable[r] and model[r] >= 0:
            row[end[model[r]]] = r
            end[model[r]] += 1
    return Members(first, row)


@entry
def fill(
    load_rps: Floats, capacity_rps: Floats, members: Members, devices: Ints, left: Floats
) -> Fill:
    """Give each model's load, (models,), to its replicas in order; NaN asks for nothing.

    `capacity_rps` and `devices`, padded with -1, are of all replicas; `left` is the compute of each
    device that may be used. More load never needs fewer replicas.
    """
    spare = left.copy()
    used = np.zeros(len(capacity_rps))
    needed = np.zeros(len(load_rps), np.int64)
    lacking = np.zeros(len(load_rps))
    for m in range(len(load_rps)):
        rest = 0.0 if math.isnan(load_rps[m]) else load_rps[m]
        for i in range(members.first[m], members.first[m + 1]):
            if rest <= NOISE_RPS:
                break
            r = members.row[i]
            part = rest / capacity_rps[r] if capacity_rps[r] > 0 else 0.0
            for d in devices[r]:
                if d >= 0:
                    part = min(part, spare[d])
            if part <= 0:
                continue
            for d in devices[r]:
                if d >= 0:
                    spare[d] -= part
            rest -= part * capacity_rps[r]
            used[r] = part
            needed[m] = i - members.first[m] + 1
        lacking[m] = rest if rest > NOISE_RPS else 0.0
    return Fill(used, needed, lacking, spare)
