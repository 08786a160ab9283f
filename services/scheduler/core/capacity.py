"""What each replica can carry: by the memory that it has, and by its model's objective."""

import math
from typing import NamedTuple

import numpy as np

from services.scheduler.core import memory
from services.scheduler.core.batches import capacity_rps, full_batch
from services.scheduler.core.contracts import RESIDENT, Floats, Ints, Seen
from services.scheduler.core.jit import kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas


class Capacity(NamedTuple):
    """Of all replicas, R, and of the devices, D."""

    alpha_ms: Floats  # R; NaN: no law, or no longer in the registry
    beta_ms: Floats  # R
    room: Ints  # R: requests whose memory is reserved
    memory_limit: Ints  # R: the largest batch by what memory there is
    latency_limit: Ints  # R: and by the objective
    full: Ints  # R: the smaller one
    full_rps: Floats  # R: the rate of full batches
    unreserved: Ints  # D: bytes


@kernel
def capacity_of(replicas: Replicas, seen: Seen, policy: Policy) -> Capacity:
    """Return what all replicas can carry; a new one gets its room."""
    count = len(replicas.model)
    alpha, beta = np.full(count, np.nan), np.full(count, np.nan)
    static, request, room = (
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        replicas.room.copy(),
    )
    latency_limit = np.ones(count, np.int64)
    for r in range(count):
        m, width = replicas.model[r], 0
        for d in replicas.devices[r]:
            width += d >= 0
        if m < 0:
            static[r] = memory.per_gpu(replicas.memory_bytes[r], width)
            room[r] = max(room[r], 1)
            continue
        first = replicas.devices[r, 0]
        whole = seen.weights_bytes[m] + seen.activation_bytes[m]
        static[r] = memory.per_gpu(whole, width)
        request[r] = memory.per_gpu(seen.request_bytes[m], width)
        if room[r] == 0:
            share = policy.batch_memory_share
            room[r] = memory.allotment(m, seen.memory_total[first], seen, share)
        alpha[r] = seen.alpha_ms[m, seen.device_type[first]]
        beta[r] = seen.beta_ms[m, seen.device_type[first]]
        budget_ms = policy.batch_margin * seen.objective_ms[m]
        latency_limit[r] = full_batch(alpha[r], beta[r], budget_ms, seen.answer_ms[m])
    left = memory.unreserved(seen, replicas.devices, static, request, room)
    memory_limit = memory.batch_limit(seen, replicas.devices, request, room, left)
    full, full_rps = np.empty(count, np.int64), np.empty(count)
    for r in range(count):
        full[r] = min(memory_limit[r], latency_limit[r])
        full_rps[r] = capacity_rps(alpha[r], beta[r], full[r])
    return Capacity(alpha, beta, room, memory_limit, latency_limit, full, full_rps, left)


@kernel
def resident_rps(replicas: Replicas, capacity: Capacity, models: int) -> Floats:
    """Return what the resident replicas of each model carry in full batches, (models,)."""
    total_rps = np.zeros(models)
    for r in range(len(replicas.model)):
        if replicas.model[r] >= 0 and replicas.stage[r] == RESIDENT:
            total_rps[replicas.model[r]] += capacity.full_rps[r]
    return total_rps


@kernel
def nominal_rps(seen: Seen, policy: Policy) -> Floats:
    """Return what one more replica of each model could serve, (models,), on the best device.

    0 where no device suits the model: none has a law for it, or all are too slow for the objective.
    """
    best = np.zeros(len(seen.gpus))
    for d in _kinds(seen):
        device_type, total = seen.device_type[d], seen.memory_total[d]
        for m in range(len(best)):
            alpha, beta = seen.alpha_ms[m, device_type], seen.beta_ms[m, device_type]
            if suits(m, device_type, seen):
                budget_ms = policy.batch_margin * seen.objective_ms[m]
                batch = min(
                    memory.allotment(m, total, seen, policy.batch_memory_share),
                    full_batch(alpha, beta, budget_ms, seen.answer_ms[m]),
                )
                best[m] = max(best[m], capacity_rps(alpha, beta, batch))
    return best


@kernel
def suits(m: int, device_type: int, seen: Seen) -> bool:
    """Return whether a device of this type is fast enough for a model."""
    answer_ms = seen.answer_ms[m]
    allowed_ms = seen.objective_ms[m] if math.isnan(answer_ms) else answer_ms
    one_ms = seen.alpha_ms[m, device_type] + seen.beta_ms[m, device_type]
    return bool(one_ms <= allowed_ms)


@kernel
def _kinds(seen: Seen) -> Ints:
    """Return one device of each type and size: there are few, however many devices."""
    found = np.empty(len(seen.device_type), np.int64)
    count = 0
    for d in range(len(seen.device_type)):
        new = True
        for k in range(count):
            same_type = seen.device_type[found[k]] == seen.device_type[d]
            if same_type and seen.memory_total[found[k]] == seen.memory_total[d]:
                new = False
                break
        if new:
            found[count] = d
            count += 1
    return found[:count]
