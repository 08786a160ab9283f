"""What operators and executors have declared of models and devices: priors of what is measured."""

from typing import NamedTuple

import numpy as np

from libs.common.messages import BatchLaw, DeviceSpec, ModelSpec
from services.predictor.core.columns import Pair
from services.predictor.core.jit import Table
from services.predictor.core.laws import PRIOR


class Registry(NamedTuple):
    """The records of registry.models and registry.devices that stand."""

    models: dict[str, ModelSpec]
    devices: dict[str, DeviceSpec]


NOTHING_DECLARED = Registry({}, {})


def with_model(registry: Registry, name: str, spec: ModelSpec | None) -> Registry:
    """Return the registry with a model declared or withdrawn (None); itself if all stays so."""
    if registry.models.get(name) == spec:
        return registry
    others = {key: value for key, value in registry.models.items() if key != name}
    return registry._replace(models=others if spec is None else {**others, name: spec})


def with_device(registry: Registry, name: str, spec: DeviceSpec | None) -> Registry:
    """Return the registry with a device declared or withdrawn (None); itself if all stays so."""
    if registry.devices.get(name) == spec:
        return registry
    others = {key: value for key, value in registry.devices.items() if key != name}
    return registry._replace(devices=others if spec is None else {**others, name: spec})


def pairs_of(registry: Registry) -> tuple[Pair, ...]:
    """Return the (model, device type) pairs that have a declared law."""
    return tuple((name, kind) for name, spec in registry.models.items() for kind in spec.law)


def priors(registry: Registry, pairs: tuple[Pair, ...]) -> Table:
    """Return what is declared of each pair, of `laws.PRIOR`.

    Load time is image + bytes / bandwidth + compile. Bytes come at the bandwidth of the slowest
    node that has the device type: a lead time that is too long costs an idle GPU for some seconds,
    one too short a missed objective.
    """
    bandwidth: dict[str, float] = {}
    for device in registry.devices.values():
        slowest = bandwidth.get(device.device_type, np.inf)
        bandwidth[device.device_type] = min(slowest, device.load_bytes_per_s)
    out = np.full(len(pairs), np.nan, PRIOR)
    for row, (name, kind) in zip(out, pairs, strict=True):
        spec = registry.models.get(name)
        law = spec.law.get(kind) if spec is not None else None
        if spec is None or law is None:
            continue
        load = spec.load
        if isinstance(law, BatchLaw):
            row["alpha_ms"], row["beta_ms"] = law.alpha_ms, law.beta_ms
            row["batch_max"] = spec.batch_max
        if kind in bandwidth:
            size = load.bytes or spec.weights_bytes
            row["load_ms"] = 1000 * (load.image_s + size / bandwidth[kind] + load.compile_s)
    return out
