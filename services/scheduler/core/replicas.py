"""The replicas that a tick plans with: what the executors report, and the orders on their way.

A load on its way counts as loading and a drain on its way as draining, so that nothing is ordered
twice. The order is fixed, by device: the router fills replicas in that order, so the last GPUs are
the first to train. What is where is never taken from our own commands once it has been reported.
"""

from bisect import bisect_left
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from services.scheduler.core.contracts import (
    DRAINING,
    LOADING,
    RESIDENT,
    Floats,
    Ints,
    Observation,
    State,
    parts_of,
)
from services.scheduler.core.policy import Policy


class Replicas(NamedTuple):
    """All replicas, R, in first-fit order; what was published of each stands beside it."""

    model: Ints  # R, -1: no longer in the registry
    stage: Ints  # R
    devices: Ints  # R x G, -1 where narrower
    memory_bytes: Ints  # R, as reported; 0 where it is not yet
    room: Ints  # R: requests whose memory is reserved; 0: not chosen yet
    batch_size: Ints  # R, as published; 0: never
    wait_ms: Floats  # R
    serving_share: Floats  # R
    concurrency: Ints  # R; -1: not in the routing table


class _Rows(NamedTuple):
    """Those of `Replicas` that say what is where."""

    names: tuple[str, ...]
    model: Ints
    stage: Ints
    devices: Ints
    memory_bytes: Ints


@lru_cache(maxsize=8)
def positions(names: tuple[str, ...]) -> dict[str, int]:
    """Return where each name stands. Names rarely change, so the last answers are kept."""
    return {name: at for at, name in enumerate(names)}


def settle_moves(state: State, seen: Observation, policy: Policy) -> State:
    """Forget the orders whose effect is reported, that failed, or that nobody took in time.

    A load that failed bars its place for a while, so that it is not tried again at once.
    """
    if not state.moves and not state.barred:
        return state
    at, stage = positions(seen.replicas), seen.replica_stage
    barred = {
        name: until
        for name, until in zip(state.barred, state.barred_until_ms.tolist(), strict=True)
        if until > seen.now_ms
    }
    kept = []
    for k, name in enumerate(state.moves):
        drains = bool(state.move_is_drain[k])
        effect = name in at
        if drains:
            effect = name not in at or stage[at[name]] != RESIDENT
        late = seen.now_ms - int(state.move_since_ms[k]) >= policy.move_timeout_ms
        failed = state.move_ids[k] in seen.failed
        if failed and not drains:
            barred[name] = seen.now_ms + policy.retry_hold_ms
        elif not (effect or late or failed):
            kept.append(k)
    return state._replace(
        moves=tuple(state.moves[k] for k in kept),
        move_ids=tuple(state.move_ids[k] for k in kept),
        move_is_drain=state.move_is_drain[kept],
        move_since_ms=state.move_since_ms[kept],
        barred=tuple(sorted(barred)),
        barred_until_ms=np.array([barred[name] for name in sorted(barred)], np.int64),
    )


def replicas_of(state: State, seen: Observation) -> tuple[tuple[str, ...], Replicas]:
    """Return the names and the rows of the replicas that are or will be."""
    rows = _rows(state, seen)
    if rows.names == state.replicas:  # by far most ticks
        return state.replicas, Replicas(
            *rows[1:],
            state.room,
            state.batch_size,
            state.wait_ms,
            state.serving_share,
            state.concurrency,
        )
    at = positions(state.replicas)
    was = np.array([at.get(name, -1) for name in rows.names], np.int64)
    return rows.names, Replicas(
        *rows[1:],
        np.append(state.room, 0)[was],
        np.append(state.batch_size, 0)[was],
        np.append(state.wait_ms, 0.0)[was],
        np.append(state.serving_share, 0.0)[was],
        np.append(state.concurrency, -1)[was],
    )


def _rows(state: State, seen: Observation) -> _Rows:
    """Return what is reported, and the loads on their way in between."""
    rows = _Rows(
        *(seen.replicas, seen.replica_model, seen.replica_stage),
        *(seen.replica_devices, seen.replica_memory_bytes),
    )
    if not state.moves:
        return rows
    at = positions(seen.replicas)
    leaving = [
        at[name]
        for name, drains in zip(state.moves, state.move_is_drain.tolist(), strict=True)
        if drains and name in at
    ]
    if leaving:
        stage = rows.stage.copy()
        stage[leaving] = DRAINING
        rows = rows._replace(stage=stage)
    coming = _coming(state, seen)
    return _merged(rows, coming) if coming else rows


def _coming(state: State, seen: Observation) -> list[tuple[list[int], str, int]]:
    """Return devices, name and model of the loads on their way, in first-fit order."""
    on_device, of_model = positions(seen.devices), positions(seen.models)
    coming = []
    for name, drains in zip(state.moves, state.move_is_drain.tolist(), strict=True):
        model, node, gpus = parts_of(name)
        devices = [on_device.get(f"{node}/{gpu}", -1) for gpu in gpus]
        # A load whose device has left the registry will not come.
        if not drains and min(devices) >= 0:
            coming.append((devices, name, of_model.get(model, -1)))
    return sorted(coming)


def _merged(rows: _Rows, coming: list[tuple[list[int], str, int]]) -> _Rows:
    """Put the loads on their way to their places in the order."""

    def key(r: int) -> tuple[list[int], str]:
        return [d for d in rows.devices[r].tolist() if d >= 0], rows.names[r]

    before = [bisect_left(range(len(rows.names)), row[:2], key=key) for row in coming]
    widest = max(rows.devices.shape[1], *(len(row[0]) for row in coming))
    padded = [row[0] + [-1] * (widest - len(row[0])) for row in coming]
    narrow = ((0, 0), (0, widest - rows.devices.shape[1]))
    names = list(rows.names)
    for place, row in reversed(list(zip(before, coming, strict=True))):
        names.insert(place, row[1])
    return _Rows(
        tuple(names),
        np.insert(rows.model, before, [row[2] for row in coming]),
        np.insert(rows.stage, before, LOADING),
        np.insert(np.pad(rows.devices, narrow, constant_values=-1), before, padded, axis=0),
        np.insert(rows.memory_bytes, before, 0),
    )
