"""The ways to send a tick that `bench.wire` compares, each from what it would naturally be given.

Rows are made from lists of Python numbers, columns from arrays. An encoding may keep state from one
tick to the next; each is begun anew for each pass over the ticks.
"""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import zstandard
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as otlp

from bench import gorilla
from bench.wire_load import Floats, Load
from libs.common import plimsoll_pb2 as pb
from libs.common.ticks import Chains, Coder, Wait

HOLDS_MS = 300

Numbers = Sequence[float] | Floats


class Encoding(Protocol):
    """One pass over a load's ticks, in order."""

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        ...

    def decode(self, message: bytes) -> Numbers:
        """Return its values, in the order of the layout."""
        ...


class JsonRows:
    """A list of rows {timestamp, name, value, unit}, by the standard library, without spaces."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._numbers = numbers(load)

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        at_ms, load = self._load.at_ms[tick], self._load
        rows = [
            {"timestamp": at_ms, "name": name, "value": value, "unit": unit}
            for name, value, unit in zip(load.names, self._numbers[tick], load.units, strict=True)
        ]
        return json.dumps(rows, separators=(",", ":")).encode()

    def decode(self, message: bytes) -> Numbers:
        """Return its values."""
        return [row["value"] for row in json.loads(message)]


class JsonZstd(JsonRows):
    """The same, each message compressed by itself."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        return self._compressor.compress(super().encode(tick))

    def decode(self, message: bytes) -> Numbers:
        """Return its values."""
        return super().decode(self._decompressor.decompress(message))


class ProtobufRows:
    """Rows {timestamp int64, value float, unit string}: who is meant is left to their order."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._numbers = numbers(load)
        self._rows: Any = _rows_message()

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        message = self._rows()
        add, at_ms = message.rows.add, self._load.at_ms[tick]
        for value, unit in zip(self._numbers[tick], self._load.units, strict=True):
            add(timestamp=at_ms, value=value, unit=unit)
        return bytes(message.SerializeToString())

    def decode(self, message: bytes) -> Numbers:
        """Return its values, each as near as a float32 comes."""
        return [row.value for row in self._rows.FromString(message).rows]


class Otlp:
    """OpenTelemetry's request: metrics by name, with a data point a node, as gauges."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._numbers = numbers(load)
        told = [name.split("/") for name in load.names]
        self._nodes = [node for _, node in told]
        self._metrics = [
            (metric, [at for at, _ in places], load.units[places[0][0]])
            for metric, group in groupby(enumerate(told), lambda one: one[1][0])
            if (places := [(at, name) for at, name in group])
        ]

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        request = otlp.ExportMetricsServiceRequest()
        scope = request.resource_metrics.add().scope_metrics.add()
        at_ns, row = self._load.at_ms[tick] * 1_000_000, self._numbers[tick]
        for name, places, unit in self._metrics:
            metric = scope.metrics.add(name=name, unit=unit)
            add = metric.gauge.data_points.add
            for at in places:
                point = add(time_unix_nano=at_ns, as_double=row[at])
                point.attributes.add(key="node").value.string_value = self._nodes[at]
        return bytes(request.SerializeToString())

    def decode(self, message: bytes) -> Numbers:
        """Return its values."""
        request = otlp.ExportMetricsServiceRequest.FromString(message)
        metrics = request.resource_metrics[0].scope_metrics[0].metrics
        return [point.as_double for metric in metrics for point in metric.gauge.data_points]


class Gorilla:
    """The bits of `bench.gorilla` in the envelope of our own ticks."""

    def __init__(self, load: Load) -> None:
        count = len(load.names)
        self._load = load
        self._number = int(load.layout.layout_id, 16)
        self._writer = gorilla.begin(count, load.at_ms[0])
        self._reader = self._writer.copy()
        self._bits = np.ascontiguousarray(load.rows).view(np.int64)
        self._out = np.zeros(gorilla.POINT_BYTES_MAX * count, np.uint8)

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        at_ms, out = self._load.at_ms[tick], self._out
        size = gorilla.write_tick(self._writer, at_ms, self._bits[tick], out)
        data = out[:size].tobytes()
        out[:size] = 0
        return pb.Tick(
            layout=self._number, at_ms=at_ms, holds_ms=HOLDS_MS, sequence=tick, floats=data
        ).SerializeToString()

    def decode(self, message: bytes) -> Numbers:
        """Return its values."""
        values = np.empty(len(self._reader), np.int64)
        data = np.frombuffer(pb.Tick.FromString(message).floats, np.uint8)
        gorilla.read_tick(self._reader, data, values)
        return values.view(np.float64)


class Ours:
    """`libs.common.ticks`, as the services use it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._coder = Coder(load.layout)
        self._chains = Chains()

    def encode(self, tick: int) -> bytes:
        """Return the message of a tick."""
        at_ms = self._load.at_ms[tick]
        made = self._coder.encode(self._load.rows[tick], at_ms, at_ms + HOLDS_MS)
        return made.SerializeToString()

    def decode(self, message: bytes) -> Numbers:
        """Return its values."""
        values = self._chains.read(pb.Tick.FromString(message), self._load.layout)
        assert not isinstance(values, Wait), values
        return values


ENCODINGS: dict[str, type[Any]] = {
    "json_rows": JsonRows,
    "json_zstd": JsonZstd,
    "protobuf_rows": ProtobufRows,
    "otlp": Otlp,
    "gorilla": Gorilla,
    "ours": Ours,
}
BY_LAYOUT = {"gorilla", "ours"}  # those that need it to be announced
FLOAT32 = {"protobuf_rows"}


def numbers(load: Load) -> list[list[float]]:
    """Return the rows as a reader of a host would have them: whole numbers as int."""
    return [
        [int(value) if value.is_integer() else value for value in row] for row in load.rows.tolist()
    ]


def _rows_message() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench_rows.proto", syntax="proto3")
    row = file.message_type.add(name="Row")
    kinds = descriptor_pb2.FieldDescriptorProto
    one = kinds.LABEL_OPTIONAL
    row.field.add(name="timestamp", number=1, type=kinds.TYPE_INT64, label=one)
    row.field.add(name="value", number=2, type=kinds.TYPE_FLOAT, label=one)
    row.field.add(name="unit", number=3, type=kinds.TYPE_STRING, label=one)
    file.message_type.add(name="Rows").field.add(
        name="rows",
        number=1,
        type=kinds.TYPE_MESSAGE,
        type_name="Row",
        label=kinds.LABEL_REPEATED,
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Rows"))
