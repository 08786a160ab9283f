"""What is compared: `python -m bench.throughput.worker KIND`, a process of its own for each.

`per_sample` is the usual Faust agent: one JSON sample a message, EWMAs in a dict, no table. `faust`
is the predictor's own stream with nothing behind it. `bare` is the client's consumer in a loop and,
apart, decoding and the core by themselves, on what it brought. Each says what a message took of
the processor, over all its threads, once it is warm.
"""

import asyncio
import json
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.throughput.load import EWMA_GAIN, SOURCES, load_of
from libs.common import plimsoll_pb2 as pb
from libs.common import ticks
from libs.common.ports import Record
from libs.common.settings import KafkaSection
from libs.common.ticks import Chains, Wait
from libs.common.topics import METRICS_SAMPLES
from services.predictor.core import partition as partitions
from services.predictor.core import source as sources
from services.predictor.core.partition import Partition
from services.predictor.core.registry import NOTHING_DECLARED
from services.predictor.core.source import Policy, Sight, Source
from services.predictor.core.warm import warm
from services.predictor.settings import PredictorSection
from services.predictor.stream import Stream

FORECASTS_MADE = 20


SESSION_MS = 6000


class Task(NamedTuple):
    """What a worker is told."""

    servers: str
    prefix: str
    messages: int  # that wait in the topic
    warm: int  # of these, before the clock starts
    samples: int  # in a message
    start_ms: int

    @property
    def place(self) -> str:
        """The topic's name on the broker."""
        return self.prefix + METRICS_SAMPLES.name


class Stopwatch:
    """Times the messages after the first `warm`; `done` is set by the last one."""

    def __init__(self, task: Task) -> None:
        self._left = task.messages
        self._starts_at = task.messages - task.warm
        self._counted = task.messages - task.warm
        self._begun = (0.0, 0.0)
        self._spent = (0.0, 0.0)
        self.done = asyncio.Event()

    def count(self, messages: int = 1) -> None:
        """Count what has been handled."""
        before, self._left = self._left, self._left - messages
        if before > self._starts_at >= self._left:
            self._counted = self._left
            self._begun = time.process_time(), time.perf_counter()
        elif self._left <= 0:
            now = time.process_time(), time.perf_counter()
            self._spent = now[0] - self._begun[0], now[1] - self._begun[1]
            self.done.set()

    def told(self) -> dict[str, float]:
        """Return microseconds a message: of processor time, over all threads, and by the clock."""
        cpu_s, wall_s = self._spent
        return {"cpu_us": 1e6 * cpu_s / self._counted, "wall_us": 1e6 * wall_s / self._counted}


async def per_sample(task: Task) -> dict[str, Any]:
    """Run the usual agent."""
    ewma: dict[str, float] = {}
    watch = Stopwatch(task)
    app = faust.App(
        f"{task.prefix}per-sample",
        broker=f"kafka://{task.servers}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=SOURCES,
        web_enabled=False,
        store="memory://",
        datadir=".plimsoll/faust",  # or it leaves a folder in the current one
        stream_wait_empty=False,
        broker_session_timeout=SESSION_MS / 1000,
        broker_heartbeat_interval=SESSION_MS / 4000,
        consumer_auto_offset_reset="earliest",
    )

    async def agent(samples: Any) -> None:
        async for sample in samples:
            name, value = sample["name"], sample["value"]
            before = ewma.get(name, value)
            ewma[name] = before + EWMA_GAIN * (value - before)
            watch.count()

    app.agent(app.topic(task.place, value_serializer="json", partitions=SOURCES))(agent)
    starting = asyncio.create_task(app.start())
    await watch.done.wait()
    starting.cancel()
    await asyncio.wait((asyncio.create_task(app.stop()),), timeout=5)
    return {**watch.told(), "ewma": ewma}


async def faust_alone(task: Task) -> dict[str, Any]:
    """Run the predictor's stream, and do nothing with what it brings."""
    watch = Stopwatch(task)

    async def take(record: Record) -> None:
        watch.count()

    async def release() -> None:
        pass

    section = KafkaSection(bootstrap_servers=task.servers, topic_prefix=task.prefix)
    stream = Stream(section, SESSION_MS, take, lambda partitions: None, release)
    running = asyncio.create_task(stream.run())
    await watch.done.wait()
    running.cancel()
    await asyncio.wait((running,))
    return watch.told()


async def bare(task: Task) -> dict[str, Any]:
    """Consume all, then decode it and fold it; the forecasts at the end are those to be had."""
    watch, messages = Stopwatch(task), list[Any]()
    consumer = AIOKafkaConsumer(bootstrap_servers=task.servers, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(task.place, partition) for partition in range(SOURCES)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while not watch.done.is_set():
            for of_place in (await consumer.getmany(timeout_ms=1000)).values():
                watch.count(len(of_place))
                messages += of_place
    finally:
        await consumer.stop()
    return {**watch.told(), **fold([(m.partition, m.value) for m in messages], task)}


def fold(messages: Iterable[tuple[int, bytes]], task: Task) -> dict[str, Any]:
    """Decode and fold messages as the predictor does, with nothing around it.

    Returns:
        Microseconds a message of decoding and of the core, and a call of making a partition's
        forecasts; and these, by partition, in base64.
    """
    warm()
    ticks.warm()
    layouts = {int(one.layout_id, 16): one for one in load_of(task.samples, task.start_ms).layouts}
    policy = PredictorSection().policy()
    chains = [Chains() for _ in range(SOURCES)]
    states = [sources.begin(layout, NOTHING_DECLARED, policy) for layout in layouts.values()]
    decoding = folding = 0.0
    for seen, (partition, value) in enumerate(messages, start=1):
        begun = time.process_time()
        tick = pb.Tick.FromString(value)
        layout = layouts[tick.layout]
        values = chains[partition].read(tick, layout)
        decoded = time.process_time()
        assert not isinstance(values, Wait), values
        sight = Sight(layout, layout.source, tick.at_ms, tick.at_ms + tick.holds_ms, values)
        ready = time.process_time()
        sources.see(states[partition], sight, policy)
        if seen > task.warm:
            decoding += decoded - begun
            folding += time.process_time() - ready
    begun = time.process_time()
    for _ in range(FORECASTS_MADE):
        said = [_forecasts(partition, state, policy) for partition, state in enumerate(states)]
    made = (time.process_time() - begun) / FORECASTS_MADE / SOURCES
    counted = task.messages - task.warm
    return {
        "decode_us": 1e6 * decoding / counted,
        "core_us": 1e6 * folding / counted,
        "forecasts_us": 1e6 * made,
        "forecasts": [
            b64encode(one.SerializeToString(deterministic=True)).decode() for one in said
        ],
    }


def _forecasts(partition: int, state: Source, policy: Policy) -> pb.LoadForecasts:
    return partitions.forecasts(Partition({state.layout.source: state}), partition, policy)


KINDS: dict[str, Callable[[Task], Coroutine[Any, Any, dict[str, Any]]]] = {
    "per_sample": per_sample,
    "faust": faust_alone,
    "bare": bare,
}

if __name__ == "__main__":
    kind, out, task = sys.argv[1:]
    found = asyncio.run(KINDS[kind](Task(**json.loads(task))))
    Path(out).write_text(json.dumps(found))
