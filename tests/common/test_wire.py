"""Bytes and headers: round trips, and what is said of what cannot be read."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.errors import ContractError
from libs.common.messages import (
    InferenceRequest,
    InventoryOrder,
    LeaderClaim,
    ModelSpec,
    PlaceReplica,
)
from libs.common.ports import Outgoing, Record
from libs.common.topics import INFERENCE_REQUESTS, LOAD_FORECASTS, METRICS_SAMPLES, TOPICS

ORIGIN = wire.Origin("test", "a")


def arrived(sent: Outgoing) -> Record:
    return Record(sent.topic, 0, 7, sent.key.encode(), sent.value, sent.headers, 1)


def raw(value: bytes | None, topic: str = "inventory.orders", **headers: bytes) -> Record:
    return Record(topic, 2, 41, b"k", value, headers, 1)


def test_a_json_message_comes_back_as_it_was() -> None:
    request = InferenceRequest(request_id="r-1", model="chat", due_at_ms=5, prompt_tokens=3)
    sent = wire.encode(INFERENCE_REQUESTS, "r-1", request, ORIGIN, "id-1", 1000)
    assert wire.read(arrived(sent)) == request


def test_a_protobuf_message_comes_back_as_it_was() -> None:
    forecasts = pb.LoadForecasts(partition=2, at_ms=9, forecasts=[pb.LoadForecast(model="chat")])
    sent = wire.encode(LOAD_FORECASTS, "2", forecasts, ORIGIN, "id-1", 1000)
    assert wire.read(arrived(sent)) == forecasts


def test_the_headers_are_those_of_a_cloud_event() -> None:
    request = InferenceRequest(request_id="r-1", model="chat")
    sent = wire.encode(INFERENCE_REQUESTS, "r-1", request, ORIGIN, "id-1", 1_700_000_000_123)
    event = from_binary_event(KafkaMessage(dict(sent.headers), sent.key, sent.value))
    assert event.get_id() == "id-1"
    assert event.get_type() == "inference.requests"
    assert event.get_source() == "/plimsoll/test/a"
    time = event.get_time()
    assert time is not None
    assert time.timestamp() == pytest.approx(1_700_000_000.123)
    assert event.get_data()["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "no value"),
        (b"{", "not JSON"),
        (b'{"order_id": "o", "lines": [{"item": "w", "quantity": NaN}]}', "not JSON"),
        (b"[]", "message: Input should be"),
        (b"{}", "order_id: Field required"),
        (b'{"order_id": "o", "lines": []}', "lines: "),
        (b'{"order_id": "o", "lines": [{"item": "w", "quantity": -1}]}', "w: a quantity of -1"),
        (b'{"order_id": "o", "lines": [{"item": "w", "quantity": 1e300}]}', "lines.0.quantity: "),
        (b'{"order_id": "o", "lines": [{"item": "w", "quantity": "3"}]}', "lines.0.quantity: "),
        (b'{"order_id": "", "lines": [{"item": "w", "quantity": 3}]}', "order_id: "),
        (b"\xff" * 900_000, "not JSON"),
    ],
)
def test_what_is_wrong_is_named(value: bytes | None, said: str) -> None:
    with pytest.raises(ContractError, match=said) as caught:
        wire.decode_json(raw(value), InventoryOrder)
    assert len(str(caught.value)) < 500


def test_a_message_of_another_type_is_refused_as_protobuf() -> None:
    with pytest.raises(ContractError, match="not a LoadForecasts"):
        wire.decode_protobuf(raw(b"\xff\xff\xff"), pb.LoadForecasts)


def test_a_dead_letter_keeps_the_bytes_and_says_from_where_and_why() -> None:
    record = raw(b"{", content=b"x", huge=b"y" * 5000)
    letter = wire.dead_letter(record, "not JSON", ORIGIN)
    assert letter.value == b"{"
    assert letter.key == "inventory.orders"
    assert letter.headers["dead-reason"] == b"not JSON"
    assert letter.headers["dead-topic"] == b"inventory.orders"
    assert (letter.headers["dead-partition"], letter.headers["dead-offset"]) == (b"2", b"41")
    assert letter.headers["content"] == b"x"
    assert "huge" not in letter.headers


def test_a_model_that_cannot_keep_its_promise_is_refused() -> None:
    spec = {"name": "m", "weights_bytes": 1, "law": {"h100": {"alpha_ms": 90, "beta_ms": 20}}}
    with pytest.raises(ValueError, match="not above the bare service time 110 ms"):
        ModelSpec.model_validate({**spec, "objective": {"latency_ms": 100}})
    assert ModelSpec.model_validate({**spec, "objective": {"latency_ms": 111}}).name == "m"


# --- Layouts --------------------------------------------------------------------------------------


def layout() -> pb.Layout:
    series = [pb.Series(metric=f"m{n}", model="chat") for n in range(3)]
    return wire.layout_of("router/0", series)


def test_a_layout_has_the_same_id_for_the_same_content_and_another_for_another() -> None:
    assert layout().layout_id == layout().layout_id
    other = wire.layout_of("router/0", [pb.Series(metric="m0", model="chat")])
    assert other.layout_id != layout().layout_id


# --- Columns --------------------------------------------------------------------------------------


class Row(NamedTuple):
    names: tuple[str, ...]
    load: npt.NDArray[np.float64]
    flags: npt.NDArray[np.bool_]
    count: int
    share: float


ARRAYS = hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, min_side=0))


@given(
    names=st.lists(st.text(max_size=5)).map(tuple),
    load=ARRAYS,
    count=st.integers(-(2**62), 2**62),
    share=st.floats(),
)
def test_columns_come_back_exactly_and_give_the_same_bytes(
    names: tuple[str, ...], load: npt.NDArray[np.float64], count: int, share: float
) -> None:
    row = Row(names, load, load > 0, count, share)
    packed = wire.pack_columns(row).SerializeToString(deterministic=True)
    back = wire.unpack_columns(pb.Columns.FromString(packed), Row)
    np.testing.assert_array_equal(back.load, row.load)
    np.testing.assert_array_equal(back.flags, row.flags)
    assert (back.names, back.count) == (names, count)
    assert wire.pack_columns(back).SerializeToString(deterministic=True) == packed


def test_an_absent_column_is_named() -> None:
    with pytest.raises(ContractError, match="columns absent: names, load, flags, count, share"):
        wire.unpack_columns(pb.Columns(), Row)


# --- The table of topics --------------------------------------------------------------------------


def test_topics_have_names_as_agreed() -> None:
    for topic in TOPICS:
        assert topic.name == topic.name.lower()
        assert "_" not in topic.name
        assert "." in topic.name
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


def test_every_contract_is_of_one_topic_or_a_part_of_one() -> None:
    contracts = [topic.contract for topic in TOPICS if topic.contract is not None]
    assert len(set(contracts)) == len(contracts)
    assert METRICS_SAMPLES.contract is pb.Tick
    assert any(contract is LeaderClaim for contract in contracts)


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    folder = Path(wire.__file__).parent
    arguments = ["protoc", f"-I{folder}", f"--python_out={tmp_path}", "plimsoll.proto"]
    assert protoc.main(arguments) == 0
    made = (tmp_path / "plimsoll_pb2.py").read_text()
    assert made == (folder / "plimsoll_pb2.py").read_text(), "run `make proto`"


def test_a_dead_letter_beyond_what_can_be_written_is_cut_and_says_how_long_it_was() -> None:
    letter = wire.dead_letter(raw(b"x" * 3_000_000), "not JSON", ORIGIN)
    assert letter.value is not None
    assert len(letter.value) == wire.DEAD_LETTER_BYTES
    assert letter.headers["dead-bytes"] == b"3000000"


def test_a_replica_of_the_longest_names_can_be_named() -> None:
    model, node = "m" * 200, "n" * 200
    order = PlaceReplica(
        id="1-2-3", replica=f"{model}@{node}:0", model=model, node=node, gpus=(0,), action="load"
    )
    assert order.replica.endswith(":0")
