"""Where in a source's columns each signal stands: a layout, read once and turned into indices.

A tick then costs a few fancy indexings, whatever the layout holds. Series that the predictor has no
use for are passed over.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from libs.common.errors import ContractError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pair = tuple[str, str]  # model, device type
Key = tuple[str, str, str, str, int]  # metric, model, node, device type, bucket

OF_MODEL = (
    series.ARRIVALS,
    series.ENDS_OK,
    series.ENDS_LATE,
    series.QUEUE,
    series.IN_FLIGHT,
    series.PROMPT_TOKENS,
    series.OUTPUT_TOKENS,
)
OF_PAIR = series.BY_DEVICE_TYPE
OF_NODE = (
    series.HOST_CPU_BUSY_S,
    series.HOST_CPU_COUNT,
    series.HOST_MEMORY_USED,
    series.HOST_MEMORY_TOTAL,
    series.HOST_DISK_BUSY_S,
    series.HOST_NETWORK_BYTES,
)
# Above every counter in use (2^63 bytes), and small enough for its square to be finite.
LARGEST = 1e19


class Columns(NamedTuple):
    """The columns of one layout. An index of -1 stands for a series that the layout lacks."""

    keys: tuple[Key, ...]  # what each column is, to find it again in the source's next layout
    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    nodes: tuple[str, ...]
    of_model: dict[str, Ints]  # by metric, (models,)
    model_of_pair: Ints  # (pairs,), into models
    of_pair: dict[str, Ints]  # by metric, (pairs,)
    of_node: dict[str, Ints]  # by metric, (nodes,)
    buckets: Ints  # of latency, (models, LATENCY_BUCKETS)
    known: Ints  # all columns in use


def read_layout(layout: pb.Layout, declared: Iterable[Pair] = ()) -> Columns:
    """Return the columns of a layout; a series that is named twice counts once, as the last.

    Pairs are those of the layout, and those `declared` of its models.
    """
    keys = tuple((s.metric, s.model, s.node, s.device_type, s.bucket) for s in layout.series)
    at = {key: column for column, key in enumerate(keys)}
    models = tuple(sorted({k[1] for k in keys if k[0] in OF_MODEL and k[1]}))
    measured = {(k[1], k[3]) for k in keys if k[0] in OF_PAIR and k[3]}
    pairs = tuple(sorted(pair for pair in measured.union(declared) if pair[0] in models))
    nodes = tuple(sorted({k[2] for k in keys if k[0] in OF_NODE and k[2]}))
    of_model = {m: _find(at, [(m, name, "", "", 0) for name in models]) for m in OF_MODEL}
    of_pair = {m: _find(at, [(m, name, "", kind, 0) for name, kind in pairs]) for m in OF_PAIR}
    of_node = {m: _find(at, [(m, "", name, "", 0) for name in nodes]) for m in OF_NODE}
    buckets = _find(
        at,
        [
            (series.LATENCY_RATIO, name, "", "", bucket)
            for name in models
            for bucket in range(series.LATENCY_BUCKETS)
        ],
    ).reshape(len(models), series.LATENCY_BUCKETS)
    found = [*of_model.values(), *of_pair.values(), *of_node.values(), buckets.ravel()]
    known = np.unique(np.concatenate(found))
    return Columns(
        keys,
        models,
        pairs,
        nodes,
        of_model,
        np.array([models.index(name) for name, _ in pairs], dtype=np.int64),
        of_pair,
        of_node,
        buckets,
        known[known >= 0],
    )


def check(columns: Columns, values: Floats) -> None:
    """Refuse values that no counter or level can have; NaN says not known, and passes.

    Raises:
        ContractError: names the first series that is negative, or beyond all reason.
    """
    bad = columns.known[(values[columns.known] < 0) | (values[columns.known] > LARGEST)]
    if bad.size:
        key = columns.keys[bad[0]]
        whose = " ".join(part for part in key[1:4] if part)
        raise ContractError(f"{key[0]} of {whose} is {values[bad[0]]:g}, not in 0 to {LARGEST:g}")


def pick(values: Floats, columns: Ints) -> Floats:
    """Return the values in these columns, in the shape of `columns`; NaN where it is -1."""
    return np.append(values, np.nan)[columns]


def increases(before: Floats, now: Floats) -> Floats:
    """Return by how much each counter grew; NaN where either end is not known.

    A counter that fell was started again: all it holds has come since.
    """
    return np.where(now < before, now, now - before)


def carry_over(old: Sequence[Key], values: Floats, new: Sequence[Key]) -> Floats:
    """Return the last values of a source in the order of its new layout; NaN for new series.

    So a source that announces a new layout, because a model was added, loses no event.
    """
    last = dict(zip(old, values.tolist(), strict=True))
    return np.array([last.get(key, np.nan) for key in new], dtype=np.float64)


def _find(at: dict[Key, int], wanted: list[Key]) -> Ints:
    return np.array([at.get(key, -1) for key in wanted], dtype=np.int64)
