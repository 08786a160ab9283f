"""Records as the services write them, for folding: each at the next offset of its topic."""

from collections import Counter

import numpy as np
from google.protobuf.message import Message as Protobuf

from libs.common import plimsoll_pb2 as pb
from libs.common import topics
from libs.common.messages import BatchLaw, Message, ModelSpec, Objective
from libs.common.ports import Outgoing, Record
from libs.common.ticks import floats
from libs.common.topics import Topic
from libs.common.wire import Origin, encode, layout_of

CHAT = ModelSpec(
    name="chat",
    objective=Objective(latency_ms=400.0),
    weights_bytes=1,
    law={"a100": BatchLaw(alpha_ms=10, beta_ms=2)},
)


class Log:
    """Makes records of messages."""

    def __init__(self) -> None:
        self._offsets: Counter[str] = Counter()

    def record(self, topic: Topic, message: Message | Protobuf, at_ms: int = 0) -> Record:
        return self.raw(encode(topic, "k", message, Origin("test", "1"), "id", at_ms), at_ms)

    def raw(self, sent: Outgoing, at_ms: int = 0) -> Record:
        offset = self._offsets[sent.topic]
        self._offsets[sent.topic] += 1
        key = sent.key.encode()
        return Record(sent.topic, 0, offset, key, sent.value, sent.headers, at_ms)


class Source:
    """A collector with a fixed layout."""

    def __init__(self, log: Log, name: str, series: list[pb.Series]) -> None:
        self._log = log
        self._layout = layout_of(name, series)

    def layout(self) -> Record:
        return self._log.record(topics.METRICS_LAYOUTS, self._layout)

    def tick(self, at_ms: int, *values: float) -> Record:
        tick = floats(self._layout, np.array(values), at_ms, at_ms + 300)
        return self._log.record(topics.METRICS_SAMPLES, tick, at_ms)


def counter(metric: str, **of: object) -> pb.Series:
    return pb.Series(metric=metric, kind=pb.Series.COUNTER, **of)  # type: ignore[arg-type]


def gauge(metric: str, **of: object) -> pb.Series:
    return pb.Series(metric=metric, kind=pb.Series.GAUGE, **of)  # type: ignore[arg-type]
