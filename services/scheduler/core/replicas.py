"""The replicas that a tick plans with: what the executors report, and the orders on their way.

A load on its way counts as loading and a drain on its way as draining, so that nothing is ordered
twice. The order is fixed, by device: the router fills replicas in that order, so the last GPUs are
the first to train. What is where is never taken from our own commands once it has been reported.
"""

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
from services.scheduler.core.memory import allotment
from services.scheduler.core.policy import Policy


class Replicas(NamedTuple):
    """All replicas, R, in first-fit order; what was published of each stands beside it."""

    names: tuple[str, ...]
    model: Ints  # R, -1: no longer in the registry
    stage: Ints  # R
    devices: Ints  # R x G, -1 where narrower
    static_bytes: Ints  # R: on each of its devices, without its batches
    request_bytes: Ints  # R: on each of its devices, for each request of a batch
    room: Ints  # R: requests whose memory is reserved
    alpha_ms: Floats  # R
    beta_ms: Floats  # R
    batch_size: Ints  # R, as published; 0: never
    wait_ms: Floats  # R
    serving_share: Floats  # R
    concurrency: Ints  # R; -1: not in the routing table

    def of(self, model: int) -> Ints:
        """Return the indices of a model's replicas that serve or will, in order."""
        return np.flatnonzero((self.model == model) & (self.stage != DRAINING))


def settle_moves(state: State, seen: Observation, policy: Policy) -> State:
    """Forget the orders whose effect is reported, that failed, or that nobody took in time.

    A load that failed bars its place for a while, so that it is not tried again at once.
    """
    stage = dict(zip(seen.replicas, seen.replica_stage.tolist(), strict=True))
    barred = {
        name: until
        for name, until in zip(state.barred, state.barred_until_ms.tolist(), strict=True)
        if until > seen.now_ms
    }
    kept = []
    for k, name in enumerate(state.moves):
        drains = bool(state.move_is_drain[k])
        effect = stage.get(name) != RESIDENT if drains else name in stage
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


def replicas_of(state: State, seen: Observation, policy: Policy) -> Replicas:
    """Return the replicas that are or will be, with the room that each one's batches have."""
    names, model, stage, devices = _rows(state, seen)
    first = devices[:, 0]
    listed = model >= 0
    width = np.maximum((devices >= 0).sum(axis=1), 1)
    # One row more than there are models: -1 finds it, for models that have left the registry.
    static = np.append(seen.weights_bytes + seen.activation_bytes, 0)[model]
    of_report = dict(zip(seen.replicas, seen.replica_memory_bytes.tolist(), strict=True))
    reported = np.array([of_report.get(name, 0) for name in names], np.int64)
    index = {name: i for i, name in enumerate(state.replicas)}
    was = np.array([index.get(name, -1) for name in names], np.int64)
    room = np.pad(allotment(seen, policy), ((0, 1), (0, 0)), constant_values=1)[model, first]
    on_type = seen.device_type[first]
    return Replicas(
        names,
        model,
        stage,
        devices,
        -(-np.where(listed, static, reported) // width),
        -(-np.append(seen.request_bytes, 0)[model] // width),
        np.where(was >= 0, np.append(state.room, 0)[was], room),
        np.pad(seen.alpha_ms, ((0, 1), (0, 0)), constant_values=np.nan)[model, on_type],
        np.pad(seen.beta_ms, ((0, 1), (0, 0)), constant_values=np.nan)[model, on_type],
        np.append(state.batch_size, 0)[was],
        np.append(state.wait_ms, 0.0)[was],
        np.append(state.serving_share, 0.0)[was],
        np.append(state.concurrency, -1)[was],
    )


def _rows(state: State, seen: Observation) -> tuple[tuple[str, ...], Ints, Ints, Ints]:
    """Return names, models, stages and devices of what is reported and of loads on their way."""
    on_device = {name: d for d, name in enumerate(seen.devices)}
    of_model = {name: m for m, name in enumerate(seen.models)}
    leaving = {n for n, drains in zip(state.moves, state.move_is_drain, strict=True) if drains}
    rows = []  # (devices, name, model, stage); sorted, this is the first-fit order
    for name, model, stage, places in zip(
        seen.replicas,
        seen.replica_model.tolist(),
        seen.replica_stage.tolist(),
        seen.replica_devices.tolist(),
        strict=True,
    ):
        devices = [d for d in places if d >= 0]
        rows.append((devices, name, model, DRAINING if name in leaving else stage))
    for name in state.moves:
        model_name, node, gpus = parts_of(name)
        devices = [on_device.get(f"{node}/{gpu}", -1) for gpu in gpus]
        # A load whose device has left the registry will not come.
        if name not in leaving and min(devices) >= 0:
            rows.append((devices, name, of_model.get(model_name, -1), LOADING))
    rows.sort()
    widest = max((len(row[0]) for row in rows), default=1)
    padded = [row[0] + [-1] * (widest - len(row[0])) for row in rows]
    return (
        tuple(row[1] for row in rows),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
        np.array(padded, np.int64).reshape(len(rows), widest),
    )
