"""How busy a node is, in [0, 1]: lower is idler, first choice."""

from typing import NamedTuple

import numpy as np

from libs.common import series
from services.predictor.core.columns import Columns, Floats, increases, pick


class Weights(NamedTuple):
    """What each share counts; they sum to 1."""

    cpu: float = 0.4
    memory: float = 0.3
    disk: float = 0.2
    network: float = 0.1


class Shares(NamedTuple):
    """How busy each resource of each node is, (nodes,), in [0, 1]; NaN where not known."""

    cpu: Floats
    memory: Floats
    disk: Floats
    network: Floats  # of the bandwidth configured, or of the most seen where that is more
    bandwidth: Floats  # the larger of the two, in bytes per second


def nothing_seen(nodes: int, bandwidth: float) -> Shares:
    """Return the state of nodes never seen, of a configured `bandwidth` in bytes per second."""
    unknown = np.full(nodes, np.nan)
    return Shares(unknown, unknown, unknown, unknown, np.full(nodes, bandwidth))


def see(state: Shares, columns: Columns, before: Floats, now: Floats, elapsed_s: float) -> Shares:
    """Take in one sample of a source; what it does not tell stays as it was."""

    def level(metric: str) -> Floats:
        return pick(now, columns.of_node[metric])

    def rate(metric: str) -> Floats:
        at = columns.of_node[metric]
        return increases(pick(before, at), pick(now, at)) / elapsed_s

    with np.errstate(invalid="ignore", divide="ignore"):
        cpu = rate(series.HOST_CPU_BUSY_S) / level(series.HOST_CPU_COUNT)
        memory = level(series.HOST_MEMORY_USED) / level(series.HOST_MEMORY_TOTAL)
    network = rate(series.HOST_NETWORK_BYTES)
    bandwidth = np.fmax(state.bandwidth, network)
    return Shares(
        _newer(state.cpu, cpu),
        _newer(state.memory, memory),
        _newer(state.disk, rate(series.HOST_DISK_BUSY_S)),
        _newer(state.network, network / bandwidth),
        bandwidth,
    )


def scores(shares: Shares, weights: Weights) -> Floats:
    """Return the score of each node, (nodes,); NaN until both cpu and memory are known.

    The weights of what is not known go to the rest, in proportion.
    """
    each = np.stack(shares[:4], axis=1)
    weight = np.where(np.isnan(each), 0.0, np.array(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        score = (weight * np.nan_to_num(each)).sum(axis=1) / weight.sum(axis=1)
    return np.where(np.isnan(shares.cpu) | np.isnan(shares.memory), np.nan, score)


def _newer(old: Floats, new: Floats) -> Floats:
    return np.where(np.isnan(new), old, new.clip(0, 1))
