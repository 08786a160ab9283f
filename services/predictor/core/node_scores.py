"""How busy a node is, in [0, 1]: lower is idler, first choice."""

import math
from typing import NamedTuple

import numpy as np

from services.predictor.core import day_max
from services.predictor.core.columns import Floats, grown, value
from services.predictor.core.jit import Row, Table, entry, kernel, record


class Weights(NamedTuple):
    """What each share counts; they sum to 1."""

    cpu: float = 0.4
    memory: float = 0.3
    disk: float = 0.2
    network: float = 0.1


RESOURCES = Weights._fields
# How busy each resource of a node is, in [0, 1]; NaN where not known.
SHARES = record(
    {
        "cpu": "f8",
        "memory": "f8",
        "disk": "f8",
        "network": "f8",  # of the bandwidth configured, or of the day's largest where that is more
        "bandwidth": "f8",  # the one configured, in bytes per second
        "fastest": ("f8", day_max.HOURS),  # bytes per second
    }
)


def nothing_seen(nodes: int, bandwidth: float) -> Table:
    """Return the state of nodes never seen, of a configured `bandwidth` in bytes per second."""
    state = np.full(nodes, np.nan, SHARES)
    state["bandwidth"] = bandwidth
    return state


@entry
def see(state: Row, at: Row, before: Floats, now: Floats, start_ms: int, end_ms: int) -> None:
    """Take in one sample of a source; what it does not tell stays as it was.

    `at` says in which columns of the two samples the node's signals stand.
    """
    elapsed_s = (end_ms - start_ms) / 1000
    cpu = grown(before, now, at.cpu_busy_s) / elapsed_s / value(now, at.cpu_count)
    memory = value(now, at.memory_used) / value(now, at.memory_total)
    network = grown(before, now, at.network_bytes) / elapsed_s
    day_max.see(state.fastest, network, start_ms, end_ms)
    fastest = day_max.largest(state.fastest)
    whole = fastest if fastest > state.bandwidth else state.bandwidth
    state.cpu = _newer(state.cpu, cpu)
    state.memory = _newer(state.memory, memory)
    state.disk = _newer(state.disk, grown(before, now, at.disk_busy_s) / elapsed_s)
    state.network = _newer(state.network, network / whole)


@entry
def busiest(state: Row) -> float:
    """Return the share of the resource that a node runs out of first; NaN: none is known."""
    most = math.nan
    for share in (state.cpu, state.memory, state.disk, state.network):
        if not math.isnan(share) and not share <= most:
            most = share
    return most


def scores(shares: Table, weights: Weights) -> Floats:
    """Return the score of each node, (nodes,); NaN until both cpu and memory are known.

    The weights of what is not known go to the rest, in proportion.
    """
    each = np.stack([shares[resource] for resource in RESOURCES], axis=1)
    weight = np.where(np.isnan(each), 0.0, np.array(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (weight * np.nan_to_num(each)).sum(axis=1) / weight.sum(axis=1)
    return np.where(np.isnan(each[:, :2]).any(axis=1), np.nan, score)


@kernel
def _newer(old: float, new: float) -> float:
    return old if math.isnan(new) else min(max(new, 0.0), 1.0)
