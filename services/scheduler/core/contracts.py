"""What a decision is made from and what it leaves: named arrays that travel in the tick record.

M models, T device types, N nodes, D devices (GPUs), R replicas, G GPUs of the widest replica, H
horizons, K moves. Names stand beside the arrays, so that a model or node may come and go; `Seen`,
`Past` and `Policy` are the parts without names, which kernels take. NaN, and -1 for integers, say
not known. Nothing here decides.
"""

from operator import attrgetter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common.messages import Explanation, PlaceReplica, RoutingTable, ScaleModel, SetBatch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LOADING, RESIDENT, DRAINING = 0, 1, 2
OPEN, CORDONED, DRAINED = 0, 1, 2
STAGES = ("loading", "resident", "draining")
# Of the quantile columns in a forecast.
QUANTILES: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.99, 0.995)


class Observation(NamedTuple):
    """Everything that one tick sees. The time is `now_ms`; there is no other clock."""

    epoch: int
    tick: int
    now_ms: int
    models: tuple[str, ...]  # M, sorted
    objective_ms: Floats  # M; of an LLM, of the first token
    answer_ms: Floats  # M: of an LLM, how long an answer takes where its engine is full; else NaN
    weights_bytes: Ints  # M; of an LLM with its KV cache, which is reserved with them
    activation_bytes: Ints  # M
    request_bytes: Ints  # M
    batch_max: Ints  # M
    gpus: Ints  # M: taken by one replica, all of one node
    replicas_min: Ints  # M; of a pinned model, like replicas_max, what it is pinned to
    replicas_max: Ints  # M
    paused: Bools  # M: a person wants nothing of it changed
    pinned: Bools  # M: a person has set how many replicas
    closed: Ints  # D: OPEN; CORDONED, no new replica; or DRAINED, and those there are to leave
    overrides: tuple[str, ...]  # in force, sorted: `target: what, by whom and until when`
    all_paused: bool  # every model, and what is not registered either
    device_types: tuple[str, ...]  # T, sorted
    alpha_ms: Floats  # M x T: a batch of b takes alpha + beta x b; LLMs: see `continuous.py`
    beta_ms: Floats  # M x T
    lead_time_ms: Floats  # M x T
    newest_sample_ms: Ints  # M: the last sample in the forecast
    next_by_ms: Ints  # M: until then the forecast holds
    arrival_rate_rps: Floats  # M
    queue_requests: Floats  # M
    in_flight_requests: Floats  # M
    slo_ratio_p98: Floats  # M: latency / objective over the last seconds
    horizon_ms: Floats  # M x H
    peak_rps: Floats  # M x H x 6: quantiles of the largest 10 s mean within each horizon
    devices: tuple[str, ...]  # D, as node/gpu, by node and number
    nodes: tuple[str, ...]  # N, sorted
    device_node: Ints  # D, into nodes
    device_gpu: Ints  # D
    device_type: Ints  # D, into device_types
    node_score: Floats  # D: of the device's node, in [0, 1], lower is idler
    reported_ms: Ints  # D: when its node last reported
    memory_total: Ints  # D
    memory_free: Ints  # D, as reported
    replicas: tuple[str, ...]  # R, as reported, by device: the order of first fit
    replica_model: Ints  # R, into models
    replica_stage: Ints  # R, into STAGES
    replica_memory_bytes: Ints  # R
    replica_devices: Ints  # R x G, into devices
    failed: tuple[str, ...]  # ids of moves on the way that an executor could not carry out


class Seen(NamedTuple):
    """The columns of an `Observation` that kernels read, as they stand there."""

    tick: int
    now_ms: int
    objective_ms: Floats
    answer_ms: Floats
    weights_bytes: Ints
    activation_bytes: Ints
    request_bytes: Ints
    batch_max: Ints
    gpus: Ints
    replicas_min: Ints
    replicas_max: Ints
    paused: Bools
    pinned: Bools
    closed: Ints
    alpha_ms: Floats
    beta_ms: Floats
    lead_time_ms: Floats
    next_by_ms: Ints
    arrival_rate_rps: Floats
    queue_requests: Floats
    in_flight_requests: Floats
    slo_ratio_p98: Floats
    horizon_ms: Floats
    peak_rps: Floats
    device_node: Ints
    device_gpu: Ints
    device_type: Ints
    node_score: Floats
    reported_ms: Ints
    memory_total: Ints
    memory_free: Ints
    replica_memory_bytes: Ints
    replica_devices: Ints


class State(NamedTuple):
    """What the next tick must know of this one: what was published, and what is under way."""

    models: tuple[str, ...]  # M
    theta: Floats  # M, as published
    theta_said: Floats  # M, as last explained
    target: Ints  # M: replicas, as published; -1: never
    low_since_ms: Ints  # M: since when fewer would do; -1: they would not
    recent_rps: Floats  # M: demand of late, at its largest
    mean_rps: Floats  # M: and in the mean
    lasting_rps: Floats  # M: and at its least since the last placement
    demand_ms: Ints  # M: when these three were last brought up to date
    held: Bools  # M: for want of data, and this has been said
    short: Bools  # M: the fleet is too small, and this has been said
    replicas: tuple[str, ...]  # R, all there are or will be
    room: Ints  # R: the largest batch whose memory is reserved
    batch_size: Ints  # R, as published; 0: never
    wait_ms: Floats  # R
    serving_share: Floats  # R
    concurrency: Ints  # R, as published; -1: not in the routing table
    moves: tuple[str, ...]  # K: replicas with an order that shows no effect yet
    move_ids: tuple[str, ...]  # K: the command
    move_is_drain: Bools  # K
    move_since_ms: Ints  # K
    barred: tuple[str, ...]  # replicas that failed to load
    barred_until_ms: Ints
    overrides: tuple[str, ...]  # in force, as last explained


class Past(NamedTuple):
    """The columns of a `State` that are of models, as they stand there."""

    theta: Floats
    theta_said: Floats
    target: Ints
    low_since_ms: Ints
    recent_rps: Floats
    mean_rps: Floats
    lasting_rps: Floats
    demand_ms: Ints
    held: Bools
    short: Bools


class Figures(NamedTuple):
    """What a tick found of each model, (models,), for people; NaN: not known. Decides nothing."""

    demand_rps: Floats  # arrivals, and the queue as the rate that drains it
    foreseen_rps: Floats  # the quantile over the lead time that replicas are placed for
    capacity_rps: Floats  # of the resident replicas, full batches within the objective


class Decision(NamedTuple):
    """What a tick decided. Commands are in the order of their ids."""

    state: State
    commands: tuple[PlaceReplica | ScaleModel | SetBatch, ...]
    tables: tuple[RoutingTable, ...]  # those that changed
    why: tuple[Explanation, ...]
    figures: Figures


def initial_state() -> State:
    """Return the state before the first tick ever."""
    reals, whole, flags = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    return State(
        models=(),
        theta=reals,
        theta_said=reals,
        target=whole,
        low_since_ms=whole,
        recent_rps=reals,
        mean_rps=reals,
        lasting_rps=reals,
        demand_ms=whole,
        held=flags,
        short=flags,
        replicas=(),
        room=whole,
        batch_size=whole,
        wait_ms=reals,
        serving_share=reals,
        concurrency=whole,
        moves=(),
        move_ids=(),
        move_is_drain=flags,
        move_since_ms=whole,
        barred=(),
        barred_until_ms=whole,
        overrides=(),
    )


_seen, _past = attrgetter(*Seen._fields), attrgetter(*Past._fields)


def seen_of(observation: Observation) -> Seen:
    """Return what kernels read of an observation."""
    return Seen(*_seen(observation))


def past_of(state: State) -> Past:
    """Return what kernels read of the models in a state."""
    return Past(*_past(state))


def replica_name(model: str, node: str, gpus: list[int]) -> str:
    """Return the name of a replica: `model@node:0+1`."""
    return f"{model}@{node}:{'+'.join(map(str, gpus))}"


def parts_of(replica: str) -> tuple[str, str, list[int]]:
    """Return the model, node and GPUs in a replica's name; a node's has neither @ nor colon."""
    model, _, place = replica.rpartition("@")
    node, _, gpus = place.partition(":")
    return model, node, [int(gpu) for gpu in gpus.split("+")]
