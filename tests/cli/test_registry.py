"""What `plimsoll init` tells the bus of models and devices."""

from pathlib import Path

from cli.registry import publish_devices, publish_models
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import DeviceSpec, ModelSpec
from libs.common.topics import REGISTRY_DEVICES, REGISTRY_MODELS
from libs.common.wire import decode_json

DEPLOY = Path(__file__).parents[2] / "deploy"


async def test_every_model_and_every_gpu_is_registered_under_its_name() -> None:
    bus = MemoryBus(ManualClock(1_000_000))
    models = await publish_models(bus, DEPLOY / "models.yaml")
    devices = await publish_devices(bus, DEPLOY / "fleet.yaml")
    said = {r.key: decode_json(r, ModelSpec) for r in bus.records(REGISTRY_MODELS)}
    assert said == {model.name.encode(): model for model in models}
    registered = {r.key: decode_json(r, DeviceSpec) for r in bus.records(REGISTRY_DEVICES)}
    assert registered == {device.device.encode(): device for device in devices}
    assert len(registered) == 8
