"""What the nodes report, as columns: a node's rows are made anew when it reports, not each tick."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from libs.common.messages import FleetState
from services.scheduler.core.contracts import STAGES
from services.scheduler.registry import NOTHING, Columns, Registered

NEVER_MS = -1
# What a report may change of replicas that stand where they stood, and of their devices.
_CHANGING = (
    "reported_ms",
    "memory_free",
    "replica_model",
    "replica_stage",
    "replica_memory_bytes",
)


class _Row(NamedTuple):
    """One replica; sorted, they stand in first-fit order."""

    places: list[int]  # devices
    name: str
    model: int  # -1: not in the registry
    stage: int
    memory_bytes: int


class _Node(NamedTuple):
    """One node's report."""

    report: FleetState
    memory_free: list[int]  # by device of the node; -1: not reported
    rows: list[_Row]


class Reported(NamedTuple):
    """What all nodes report."""

    registered: Registered  # for which it holds
    reports: list[FleetState]  # as they stood, to see whether any has changed
    nodes: dict[str, _Node]
    first: dict[str, int]  # of each node's rows
    columns: Columns


NOBODY = Reported(NOTHING, [], {}, {}, {})


def reported(known: Reported, registered: Registered, fleet: Mapping[str, FleetState]) -> Reported:
    """Return what the nodes report: `known`, where that is still so."""
    now = list(fleet.values())
    same = known.registered is registered and bool(known.columns)
    if same and now == known.reports:
        return known
    kept = known.nodes if same else {}
    nodes: dict[str, _Node] = {}
    newer: list[str] = []
    for name in registered.span:
        if name in fleet:
            node = kept.get(name)
            if node is None or node.report is not fleet[name]:
                node = _rows_of(name, fleet[name], registered)
                newer.append(name)
            nodes[name] = node
    if (
        same
        and nodes.keys() == kept.keys()
        and all(_stands(kept[name], nodes[name]) for name in newer)
    ):
        return Reported(registered, now, nodes, known.first, _updated(known, nodes, newer))
    first, count = {}, 0
    for name, node in nodes.items():
        first[name] = count
        count += len(node.rows)
    return Reported(registered, now, nodes, first, _columns(nodes, registered))


def _stands(before: _Node, now: _Node) -> bool:
    """Return whether a node's replicas are the same ones on the same devices."""
    return [row[:2] for row in before.rows] == [row[:2] for row in now.rows]


def _updated(known: Reported, nodes: dict[str, _Node], newer: list[str]) -> Columns:
    """Return the columns with the rows of newer reports, of replicas that stand where they stood.

    The names, and the devices of each, are those that there were: so the next tick sees at once
    that nobody came or went.
    """
    columns = known.columns | {name: known.columns[name].copy() for name in _CHANGING}
    reported_ms, memory_free, model, stage, memory = (columns[name] for name in _CHANGING)
    for name in newer:
        start, end = known.registered.span[name]
        node, first = nodes[name], known.first[name]
        reported_ms[start:end], memory_free[start:end] = node.report.at_ms, node.memory_free
        for r, row in enumerate(node.rows, first):
            model[r], stage[r], memory[r] = row.model, row.stage, row.memory_bytes
    return columns


def _rows_of(name: str, report: FleetState, registered: Registered) -> _Node:
    start, end = registered.span[name]
    memory_free = [-1] * (end - start)
    for gpu in report.gpus:
        d = registered.on_device.get((name, gpu.gpu), -1)
        if d >= 0:
            memory_free[d - start] = gpu.memory_bytes_free
    rows = []
    for replica in report.replicas:
        places = [registered.on_device.get((name, gpu), -1) for gpu in replica.gpus]
        # A GPU that is not registered (yet) cannot be planned with, nor what is in host memory.
        if places and min(places) >= 0 and replica.state != "host":
            m = registered.of_model.get(replica.model, -1)
            stage = STAGES.index(replica.state)
            rows.append(_Row(places, replica.replica, m, stage, replica.memory_bytes))
    return _Node(report, memory_free, sorted(rows))


def _columns(nodes: dict[str, _Node], registered: Registered) -> Columns:
    devices = len(registered.columns["devices"])
    memory_free = np.full(devices, -1)
    reported_ms = np.full(devices, NEVER_MS)
    for name, node in nodes.items():
        start, end = registered.span[name]
        memory_free[start:end] = node.memory_free
        reported_ms[start:end] = node.report.at_ms
    rows = [row for node in nodes.values() for row in node.rows]
    places, names, model, stage, memory = zip(*rows, strict=True) if rows else [()] * 5
    widest = max(map(len, places), default=1)
    padded = [row + [-1] * (widest - len(row)) for row in places]
    return {
        "reported_ms": reported_ms,
        "memory_free": memory_free,
        "replicas": names,
        "replica_model": np.array(model, np.int64),
        "replica_stage": np.array(stage, np.int64),
        "replica_memory_bytes": np.array(memory, np.int64),
        "replica_devices": np.array(padded, np.int64).reshape(len(rows), widest),
    }
