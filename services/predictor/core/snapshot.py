"""The state of a partition to a message and back, for its next owner: same state, same bytes.

Only what ticks have changed is in it; indices and priors are made anew from layouts and registry,
so that a worker under another registry takes over what it can use. It is raw bytes of arrays of
records: who has other fields must not read them, and `FORM` tells.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from services.predictor.core import source as sources
from services.predictor.core.columns import read_layout
from services.predictor.core.jit import Table, record
from services.predictor.core.partition import Partition
from services.predictor.core.registry import NOTHING_DECLARED, Registry
from services.predictor.core.source import CHANGING, Policy, Source
from services.predictor.core.triggers import NOTHING_KNOWN, Lift, Plan

VERSION = 1  # of this file and of `PartitionState`: one more, and older snapshots are passed over
LIFT = record(
    {name: "f8" if kind is float else "i8" for name, kind in Lift.__annotations__.items()}
)
_EMPTY = sources.begin(pb.Layout(), NOTHING_DECLARED, Policy())
_TABLES = {field: getattr(_EMPTY, field).dtype for field in CHANGING}


def form() -> str:
    """Return what tells the form of the bytes: the version, and all fields of all records."""
    fields = [(name, kind.descr) for name, kind in (*_TABLES.items(), ("lift", LIFT))]
    return f"{VERSION}-{hashlib.sha256(repr(fields).encode()).hexdigest()[:16]}"


FORM = form()


def pack(state: Partition, announced: Mapping[str, pb.Layout]) -> pb.PartitionState:
    """Return a state as a message. A layout that is not `announced` under its id goes with it."""
    packed = pb.PartitionState()
    for source in state.sources.values():
        said = packed.sources.add(
            layout_id=source.layout.layout_id,
            at_ms=source.at_ms,
            next_by_ms=source.next_by_ms,
            values=source.values.tobytes(),
            tables=[getattr(source, field).tobytes() for field in CHANGING],
            pairs=[name for pair in source.columns.pairs for name in pair],
            plans=[_pack_plan(model, plan) for model, plan in source.plans.items()],
        )
        if source.layout.layout_id not in announced:
            said.layout.CopyFrom(source.layout)
    return packed


def unpack(
    packed: pb.PartitionState,
    layouts: Mapping[str, pb.Layout],
    registry: Registry,
    policy: Policy,
) -> Partition:
    """Return the state that was packed. A source whose layout is known no more is left out.

    Raises:
        ContractError: its arrays are not those of its layouts.
    """
    restored: dict[str, Source] = {}
    for said in packed.sources:
        layout = said.layout if said.HasField("layout") else layouts.get(said.layout_id)
        if layout is not None:
            restored[layout.source] = _unpack_source(said, layout, registry, policy)
    return Partition(restored)


def array(data: bytes, kind: np.dtype[np.void] | str, count: int) -> Table:
    """Return `count` elements of a dtype from their bytes; ContractError: they are not so many."""
    kind = np.dtype(kind)
    if len(data) != count * kind.itemsize:
        raise ContractError(f"{len(data)} bytes are not {count} of {kind.itemsize}")
    return np.frombuffer(data, kind).copy()


def _unpack_source(
    said: pb.SourceState, layout: pb.Layout, registry: Registry, policy: Policy
) -> Source:
    pairs = list(zip(said.pairs[::2], said.pairs[1::2], strict=False))
    if len(said.tables) != len(CHANGING):
        raise ContractError(f"{len(said.tables)} tables, not {len(CHANGING)}")
    was = sources.begin(layout, NOTHING_DECLARED, policy)
    was.columns = read_layout(layout, pairs)
    was.at_ms, was.next_by_ms = said.at_ms, said.next_by_ms
    was.values = array(said.values, "<f8", len(layout.series))
    for (field, rows), data in zip(CHANGING.items(), said.tables, strict=True):
        count = len(getattr(was.columns, rows))
        setattr(was, field, array(data, _TABLES[field], count))
    was.plans = dict(map(_unpack_plan, said.plans))
    return sources.resume(was, layout, registry, policy)


def _pack_plan(model: str, plan: Plan) -> pb.PlanState:
    return pb.PlanState(
        model=model,
        lifts=np.array([tuple(lift) for lift in plan.lifts], LIFT).tobytes(),
        past_ms=plan.past_ms.tobytes(),
        gains=plan.gains.tobytes(),
        seen_ms=plan.seen_ms,
    )


def _unpack_plan(said: pb.PlanState) -> tuple[str, Plan]:
    lifts = array(said.lifts, LIFT, len(said.lifts) // LIFT.itemsize).tolist()
    shapes = NOTHING_KNOWN.past_ms, NOTHING_KNOWN.gains
    past_ms, gains = (
        array(data, like.dtype.str, like.size).reshape(like.shape)
        for data, like in zip((said.past_ms, said.gains), shapes, strict=True)
    )
    return said.model, Plan(tuple(map(_lift, lifts)), past_ms, gains, said.seen_ms)


def _lift(fields: Iterable[float]) -> Lift:
    lift = Lift(*fields)  # type: ignore[arg-type]
    return lift._replace(announced=bool(lift.announced))
