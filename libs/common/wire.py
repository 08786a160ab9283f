"""Bytes and headers: how contracts become records and back. Nothing is sent here.

JSON records carry CloudEvents headers in binary mode (https://cloudevents.io, Kafka binding
1.0.2); records without headers are taken too, typed by their topic.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf
from pydantic import ValidationError

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from libs.common.messages import AppSamples, Message
from libs.common.ports import Outgoing, Record
from libs.common.topics import BY_NAME, DEAD_LETTERS, Topic

JSON = b"application/json"
PROTOBUF = b"application/protobuf"
# More than any message that a broker takes by default. On a broker that takes larger ones, a dead
# letter is cut here and says how long it was: one that cannot be written would stop its stream.
DEAD_LETTER_BYTES = 1_500_000

M = TypeVar("M", bound=Message)
P = TypeVar("P", bound=Protobuf)
T = TypeVar("T", bound=tuple[Any, ...])


class Origin(NamedTuple):
    """Who speaks: the CloudEvents source of what a service instance sends."""

    service: str
    instance: str

    @property
    def uri(self) -> str:
        """The `ce_source`, as `/plimsoll/scheduler/a`."""
        return f"/plimsoll/{self.service}/{self.instance}"


# --- Whole messages -------------------------------------------------------------------------------


def encode(
    topic: Topic,
    key: str,
    message: Message | Protobuf,
    origin: Origin,
    event_id: str,
    at_ms: int,
    *,
    partition: int | None = None,
) -> Outgoing:
    """Make the record of a message. `event_id` derives from its cause, so a replay repeats it."""
    assert topic.contract is not None, topic.name
    assert isinstance(message, topic.contract), (topic.name, message)
    if isinstance(message, Message):
        value, content_type = message.model_dump_json().encode(), JSON
    else:
        value, content_type = message.SerializeToString(deterministic=True), PROTOBUF
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": event_id.encode(),
        "ce_source": origin.uri.encode(),
        "ce_type": topic.name.encode(),
        "ce_time": _rfc3339(at_ms),
        "content-type": content_type,
    }
    return Outgoing(topic.name, key, value, headers, partition)


def decode_json(record: Record, contract: type[M]) -> M:
    """Read a JSON record.

    Raises:
        ContractError: no value, not JSON, or not as the contract says; names field and reason.
    """
    if record.value is None:
        raise ContractError("no value")
    try:
        content = orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise ContractError(f"not JSON: {error}") from error
    try:
        return contract.model_validate(content)
    except ValidationError as error:
        raise ContractError(describe(error)) from error


def decode_protobuf(record: Record, contract: type[P]) -> P:
    """Read a Protobuf record.

    Raises:
        ContractError: no value, or not a message of this type.
    """
    if record.value is None:
        raise ContractError("no value")
    message = contract()
    try:
        message.ParseFromString(record.value)
    except DecodeError as error:
        raise ContractError(f"not a {contract.__name__}: {error}") from error
    return message


def describe(error: ValidationError) -> str:
    """Say in one line what is wrong, field by field: `quantity: Input should be greater than 0`."""
    faults = error.errors(include_url=False, include_context=False)
    said = [
        f"{'.'.join(map(str, fault['loc'])) or 'message'}: {fault['msg']}"
        f" (got {repr(fault['input'])[:60]})"
        for fault in faults[:3]
    ]
    more = f"; {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(said) + more


def dead_letter(record: Record, reason: str, origin: Origin) -> Outgoing:
    """Make the record that keeps an unreadable message: as it came, with where from and why."""
    headers = {
        **{name: value for name, value in record.headers.items() if len(value) < 1024},
        "dead-reason": reason[:1000].encode(),
        "dead-topic": record.topic.encode(),
        "dead-partition": str(record.partition).encode(),
        "dead-offset": str(record.offset).encode(),
        "dead-by": origin.uri.encode(),
    }
    value = record.value or b""
    if len(value) > DEAD_LETTER_BYTES:
        headers["dead-bytes"] = str(len(value)).encode()
        value = value[:DEAD_LETTER_BYTES]
    return Outgoing(DEAD_LETTERS.name, record.topic, value, headers)


def _rfc3339(at_ms: int) -> bytes:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


# --- Layouts --------------------------------------------------------------------------------------


def layout_of(source: str, series: Sequence[pb.Series]) -> pb.Layout:
    """Make a layout. Its id is a hash of its content, so announcing it again changes nothing."""
    layout = pb.Layout(source=source, series=series)
    digest = hashlib.sha256(layout.SerializeToString(deterministic=True)).hexdigest()
    layout.layout_id = digest[:16]
    return layout


# --- Named arrays: what a tick saw, and the state it left -----------------------------------------


def pack_columns(columns: tuple[Any, ...]) -> pb.Columns:
    """Return the wire form of a NamedTuple whose fields are arrays, numbers or tuples of strings.

    Numbers travel as arrays of no dimension. The same values give the same bytes.
    """
    packed = pb.Columns()
    for name, value in zip(columns._fields, columns, strict=True):  # type: ignore[attr-defined]
        column = packed.columns.add(name=name)
        if isinstance(value, tuple):
            column.dtype = "text"
            column.text.extend(value)
        else:
            array = np.asarray(value)
            assert array.dtype.kind in "biuf", (name, array.dtype)
            column.dtype = array.dtype.newbyteorder("<").str
            column.shape.extend(array.shape)
            column.data = array.astype(column.dtype, copy=False).tobytes()
    return packed


def unpack_columns(packed: pb.Columns, contract: type[T]) -> T:
    """Return the NamedTuple that `pack_columns` was given; numbers come back as Python numbers.

    Raises:
        ContractError: a field of `contract` is absent; others are passed over.
    """
    found: dict[str, Any] = {}
    for column in packed.columns:
        if column.dtype == "text":
            found[column.name] = tuple(column.text)
        else:
            array = np.frombuffer(column.data, dtype=column.dtype).reshape(tuple(column.shape))
            found[column.name] = array.copy() if array.shape else array.item()
    fields: tuple[str, ...] = contract._fields  # type: ignore[attr-defined]
    absent = [name for name in fields if name not in found]
    if absent:
        raise ContractError(f"columns absent: {', '.join(absent)}")
    return contract(**{name: found[name] for name in fields})


def read(record: Record) -> Message | Protobuf | None:
    """Read any record of the table by its topic; None for a tombstone and for raw topics.

    Raises:
        ContractError: as of `decode_json` and `decode_protobuf`.
    """
    contract = BY_NAME[record.topic].contract
    if contract is None or record.value is None:
        return None
    if issubclass(contract, Message):
        return decode_json(record, contract)
    if record.headers.get("content-type") == JSON:
        return decode_json(record, AppSamples)
    assert issubclass(contract, Protobuf), contract
    return decode_protobuf(record, contract)
