"""Where in a source's columns each signal stands: a layout, read once and turned into indices.

A tick then costs one look a signal. Series that the predictor has no use for are passed over.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from libs.common.errors import ContractError
from services.predictor.core.jit import Table, kernel, record

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pair = tuple[str, str]  # model, device type
Key = tuple[str, str, str, str, int]  # metric, model, node, device type, bucket

# Series by the name that the kernels call their column.
OF_MODEL = {
    "arrivals": series.ARRIVALS,
    "ends_ok": series.ENDS_OK,
    "ends_late": series.ENDS_LATE,
    "queue": series.QUEUE,
    "in_flight": series.IN_FLIGHT,
    "prompt_tokens": series.PROMPT_TOKENS,
    "output_tokens": series.OUTPUT_TOKENS,
}
OF_PAIR = {
    "n": series.BATCHES,
    "b": series.BATCH_REQUESTS,
    "s": series.BATCH_SERVICE_MS,
    "bb": series.BATCH_REQUESTS_SQUARED,
    "bs": series.BATCH_CROSS,
    "loads": series.LOADS,
    "load_ms": series.LOAD_MS,
}
OF_NODE = {
    "cpu_busy_s": series.HOST_CPU_BUSY_S,
    "cpu_count": series.HOST_CPU_COUNT,
    "memory_used": series.HOST_MEMORY_USED,
    "memory_total": series.HOST_MEMORY_TOTAL,
    "disk_busy_s": series.HOST_DISK_BUSY_S,
    "network_bytes": series.HOST_NETWORK_BYTES,
}
AT_MODEL = record({**dict.fromkeys(OF_MODEL, "i8"), "buckets": ("i8", series.LATENCY_BUCKETS)})
AT_PAIR = record({**dict.fromkeys(OF_PAIR, "i8"), "model": "i8"})
AT_NODE = record(dict.fromkeys(OF_NODE, "i8"))
# Above every counter in use (2^63 bytes), and small enough for its square to be finite.
LARGEST = 1e19


class Columns(NamedTuple):
    """The columns of one layout. An index of -1 stands for a series that the layout lacks."""

    keys: tuple[Key, ...]  # what each column is, to find it again in the source's next layout
    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    nodes: tuple[str, ...]
    of_model: Table  # of AT_MODEL, (models,)
    of_pair: Table  # of AT_PAIR, (pairs,); `model` is a row of `models`
    of_node: Table  # of AT_NODE, (nodes,)
    known: Ints  # all columns in use


def read_layout(layout: pb.Layout, declared: Iterable[Pair] = ()) -> Columns:
    """Return the columns of a layout; a series that is named twice counts once, as the last.

    Pairs are those of the layout, and those `declared` of its models.
    """
    keys = tuple((s.metric, s.model, s.node, s.device_type, s.bucket) for s in layout.series)
    at = {key: column for column, key in enumerate(keys)}
    models = tuple(sorted({k[1] for k in keys if k[0] in OF_MODEL.values() and k[1]}))
    row = {name: place for place, name in enumerate(models)}
    measured = {(k[1], k[3]) for k in keys if k[0] in OF_PAIR.values() and k[3]}
    pairs = tuple(sorted(pair for pair in measured.union(declared) if pair[0] in row))
    nodes = tuple(sorted({k[2] for k in keys if k[0] in OF_NODE.values() and k[2]}))
    of_model = np.zeros(len(models), AT_MODEL)
    of_pair = np.zeros(len(pairs), AT_PAIR)
    of_node = np.zeros(len(nodes), AT_NODE)
    for field, metric in OF_MODEL.items():
        of_model[field] = [at.get((metric, name, "", "", 0), -1) for name in models]
    for bucket in range(series.LATENCY_BUCKETS):
        wanted = [(series.LATENCY_RATIO, name, "", "", bucket) for name in models]
        of_model["buckets"][:, bucket] = [at.get(key, -1) for key in wanted]
    for field, metric in OF_PAIR.items():
        of_pair[field] = [at.get((metric, name, "", kind, 0), -1) for name, kind in pairs]
    of_pair["model"] = [row[name] for name, _ in pairs]
    for field, metric in OF_NODE.items():
        of_node[field] = [at.get((metric, "", name, "", 0), -1) for name in nodes]
    found = [
        *(of_model[field].ravel() for field in AT_MODEL.fields or ()),
        *(of_pair[field] for field in OF_PAIR),
        *(of_node[field] for field in OF_NODE),
    ]
    known = np.unique(np.concatenate(found))
    return Columns(keys, models, pairs, nodes, of_model, of_pair, of_node, known[known >= 0])


def refuse(columns: Columns, values: Floats, column: int) -> ContractError:
    """Return the error that says which value no counter or level can have."""
    key = columns.keys[column]
    whose = " ".join(part for part in key[1:4] if part)
    return ContractError(f"{key[0]} of {whose} is {values[column]:g}, not in 0 to {LARGEST:g}")


@kernel
def first_bad(known: Ints, values: Floats) -> int:
    """Return the first column whose value no counter or level can have, or -1.

    NaN says not known, and passes.
    """
    for column in known:
        if values[column] < 0 or values[column] > LARGEST:
            return column
    return -1


@kernel
def value(values: Floats, column: int) -> float:
    """Return the value in a column; NaN where there is none."""
    return values[column] if column >= 0 else math.nan


@kernel
def grown(before: Floats, now: Floats, column: int) -> float:
    """Return by how much a counter grew; NaN where either end is not known.

    A counter that fell was started again: all it holds has come since.
    """
    if column < 0:
        return math.nan
    return now[column] if now[column] < before[column] else now[column] - before[column]


def carry_over(old: Sequence[Key], values: Floats, new: Sequence[Key]) -> Floats:
    """Return the last values of a source in the order of its new layout; NaN for new series.

    So a source that announces a new layout, because a model was added, loses no event.
    """
    last = dict(zip(old, values.tolist(), strict=True))
    return np.array([last.get(key, np.nan) for key in new], dtype=np.float64)
