"""Tells the bus which models and devices there are, as `models.yaml` and `fleet.yaml` say."""

import time
from collections.abc import Mapping
from pathlib import Path

from libs.common.messages import DeviceSpec, Message, ModelSpec
from libs.common.ports import Bus
from libs.common.topics import REGISTRY_DEVICES, REGISTRY_MODELS, Topic
from libs.common.wire import Origin, encode
from libs.fleet.spec import read_fleet, read_models

MODELS = Path(__file__).parents[1] / "deploy" / "models.yaml"


async def publish_models(bus: Bus, path: Path = MODELS) -> list[ModelSpec]:
    """Publish every model of a file, and return them.

    Raises:
        SettingError: the file cannot be read as models.
    """
    models = list(read_models(path))
    await _publish(bus, REGISTRY_MODELS, {model.name: model for model in models})
    return models


async def publish_devices(bus: Bus, path: Path) -> list[DeviceSpec]:
    """Publish every GPU of a fleet's file, and return them.

    Raises:
        SettingError: the file cannot be read as a fleet.
    """
    devices = read_fleet(path).devices()
    await _publish(bus, REGISTRY_DEVICES, {device.device: device for device in devices})
    return devices


async def _publish(bus: Bus, topic: Topic, messages: Mapping[str, Message]) -> None:
    origin, now_ms = Origin("cli", "init"), time.time_ns() // 1_000_000
    await bus.publish(
        [encode(topic, key, m, origin, f"{key}-{now_ms}", now_ms) for key, m in messages.items()]
    )
