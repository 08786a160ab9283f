from cli.follow import Follower
from cli.registry import publish_models
from libs.common import topics
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import ModelSpec
from libs.common.ports import Outgoing, Record
from libs.common.wire import decode_json
from tests.cli.records import CHAT


async def test_what_is_kept_is_read_from_its_beginning_and_streams_from_now_on() -> None:
    bus = MemoryBus(ManualClock())
    both = (topics.REGISTRY_MODELS, topics.INFERENCE_RESULTS)
    await bus.publish([Outgoing(topic.name, "old", b"") for topic in both])
    taken: list[Record] = []
    async with Follower(bus, both, taken.append) as follower:
        await bus.publish([Outgoing(topic.name, "new", b"") for topic in both])
        await follower.read_for(0.0)
    assert sorted((r.topic, r.key) for r in taken) == [
        ("inference.results", b"new"),
        ("registry.models", b"new"),
        ("registry.models", b"old"),
    ]


async def test_every_model_of_the_demo_is_registered_under_its_name() -> None:
    bus = MemoryBus(ManualClock())
    models = await publish_models(bus)
    records = bus.records(topics.REGISTRY_MODELS)
    assert [r.key for r in records] == [model.name.encode() for model in models]
    assert [decode_json(r, ModelSpec) for r in records] == models
    assert CHAT.name in {model.name for model in models}
