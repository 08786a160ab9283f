from libs.common import plimsoll_pb2 as pb
from libs.common import series, ticks
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import ModelSpec, Objective, StepLaw
from libs.common.ports import Record
from libs.common.topics import METRICS_SAMPLES
from libs.common.wire import Origin, decode_protobuf
from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from libs.fleet.router import Router
from libs.fleet.spec import DeviceType, FleetSpec, NodeSpec
from services.executor.sampler import Sampler

START_MS = 1_800_000_000_000


def test_of_an_llm_the_first_token_is_held_against_its_objective() -> None:
    # A prompt of 10 tokens takes 1 + 10 ms and little more, some 0.1 of its objective; each further
    # token takes 1 + 1 ms, 0.5 of its own.
    chat = ModelSpec(
        name="chat",
        kind="llm",
        objective=Objective(ttft_ms=100, tpot_ms=4),
        weights_bytes=1,
        kv_tokens=1000,
        law={"g": StepLaw(base_ms=1, prefill_token_ms=1, decode_seq_ms=1)},
    )
    node = NodeSpec(name="n", device_type="g", gpus=1, load_bytes_per_s=1.0)
    fleet = FleetModel(FleetSpec(device_types={"g": DeviceType(memory_bytes=9)}, nodes=(node,)))
    fleet.register(chat)
    fleet.place("chat", "n-0", [0])
    fleet.submit(Requests.of([0], [0], [10], [5]))
    fleet.advance(1000)
    sampler = Sampler(fleet, Router(fleet), MemoryBus(ManualClock(START_MS)), Origin("x", "x"))
    assert sampler.of_models(START_MS, 100) == [], "nobody knows the layout yet"
    (layout,) = sampler.new_layouts()
    sampler.announced([layout])
    (sent,) = sampler.of_models(START_MS + 100, 100)
    record = Record(METRICS_SAMPLES.name, 0, 0, None, sent.value, sent.headers, START_MS)
    values = ticks.Chains().read(decode_protobuf(record, pb.Tick), layout)
    assert not isinstance(values, ticks.Wait)
    buckets = [s.bucket for s in layout.series if s.metric == series.LATENCY_RATIO]
    ratios = [
        v for s, v in zip(layout.series, values, strict=True) if s.metric == series.LATENCY_RATIO
    ]
    (first_ms,) = fleet.ttft_ms()
    assert first_ms < 20
    assert fleet.latency_ratio[0].argmax() > series.latency_bucket(0.2), "of the worse one"
    assert [b for b, v in zip(buckets, ratios, strict=True) if v] == [
        series.latency_bucket(first_ms / 100)
    ]
