"""A partition's state as records of `predictor.snapshots`, and as much of them as can be believed.

A state is compressed and cut into parts that a broker takes; each says of how many it is one. They
are written in one transaction, so the newest records of a partition are one whole state, unless
somebody else has been at the topic.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import zstandard
from google.protobuf.message import DecodeError

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.errors import ContractError
from libs.common.ports import Outgoing, Record
from libs.common.ticks import Chain, Chains
from libs.common.topics import PREDICTOR_SNAPSHOTS
from libs.common.wire import Origin
from services.predictor.core.snapshot import FORM, array

CHUNK_BYTES = 900_000  # below the largest message that a broker takes by default
STATE_BYTES_MAX = 1 << 30


class Refused(ContractError):  # noqa: N818 - a fact of life, not an error
    """A snapshot that is not to be used; `kind` is for the counter."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Snapshot(NamedTuple):
    """A state, and the offset of the first record that is not in it."""

    next_offset: int
    state: pb.PartitionState


def pack_runs(chains: Chains, into: pb.PartitionState) -> None:
    """Add what deltas of ticks will differ from."""
    for chain in chains.held().values():
        layout_id, begun_ms = chain.run
        into.runs.add(
            layout_id=layout_id,
            begun_ms=begun_ms,
            sequence=chain.sequence,
            whole=chain.whole,
            integers=chain.integers.tobytes(),
        )


def unpack_runs(state: pb.PartitionState, layouts: Mapping[str, pb.Layout]) -> Chains:
    """Return what was packed; a run whose layout is not known waits for its next key.

    Raises:
        ContractError: its integers are not those of its layout.
    """
    chains = Chains()
    for run in state.runs:
        if (layout := layouts.get(run.layout_id)) is None:
            continue
        chain = Chain(layout, run.begun_ms)
        chain.integers = array(run.integers, "<i8", len(layout.series))
        chain.sequence, chain.whole = run.sequence, run.whole
        chains.put(layout.source, chain)
    return chains


def compress(state: pb.PartitionState) -> bytes:
    """Return the bytes of a state; they are the same for the same state."""
    return zstandard.ZstdCompressor(level=1).compress(state.SerializeToString(deterministic=True))


def cut(
    data: bytes, partition: int, next_offset: int, before: int, origin: Origin, at_ms: int
) -> list[Outgoing]:
    """Return the records of a snapshot; those of `before` parts that it no longer has go first."""
    parts = [data[at : at + CHUNK_BYTES] for at in range(0, max(1, len(data)), CHUNK_BYTES)]
    gone = [
        Outgoing(PREDICTOR_SNAPSHOTS.name, _key(partition, number), None, partition=partition)
        for number in range(len(parts), before)
    ]
    return gone + [
        wire.encode(
            PREDICTOR_SNAPSHOTS,
            _key(partition, number),
            pb.SnapshotChunk(
                form=FORM, next_offset=next_offset, chunk=number, chunks=len(parts), data=part
            ),
            origin,
            f"{partition}-{next_offset}-{number}",
            at_ms,
            partition=partition,
        )
        for number, part in enumerate(parts)
    ]


def read_chunk(record: Record) -> pb.SnapshotChunk:
    """Read one part. Raises Refused: it is none, or one of another form."""
    try:
        chunk = wire.decode_protobuf(record, pb.SnapshotChunk)
    except ContractError as error:
        raise Refused("unreadable", str(error)) from error
    if chunk.form != FORM:
        raise Refused("other_form", f"its form is {chunk.form!r}, ours {FORM!r}")
    return chunk


def join(records: Sequence[Record]) -> Snapshot:
    """Return the snapshot whose parts the records are, in order.

    Raises:
        Refused: a part is missing, belongs to another, or cannot be read.
    """
    chunks = [read_chunk(record) for record in records]
    newest = chunks[-1]
    found = [(chunk.next_offset, chunk.chunk, chunk.chunks) for chunk in chunks]
    wanted = [(newest.next_offset, number, newest.chunks) for number in range(newest.chunks)]
    if found != wanted:
        raise Refused("torn", f"parts {found}, not {wanted}")
    data = b"".join(chunk.data for chunk in chunks)
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= STATE_BYTES_MAX:
            raise Refused("unreadable", f"a state of {size} bytes")
        plain = zstandard.ZstdDecompressor().decompress(data)
        return Snapshot(newest.next_offset, pb.PartitionState.FromString(plain))
    except (zstandard.ZstdError, DecodeError) as error:
        raise Refused("unreadable", str(error)) from error


def _key(partition: int, chunk: int) -> str:
    return f"{partition}/{chunk}"
