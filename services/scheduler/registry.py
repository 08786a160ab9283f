"""Models and devices as the columns of a tick: made anew when the registry changes."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from libs.common.messages import BatchLaw, DeviceSpec, ModelSpec, StepLaw
from services.scheduler.core.continuous import Engine
from services.scheduler.core.contracts import Floats

Columns = dict[str, Any]  # fields of `Observation` by name


class Registered(NamedTuple):
    """What the registry says, and where each name stands."""

    models: list[ModelSpec]  # as they stood in the registry, to see whether it has changed
    devices: list[DeviceSpec]
    columns: Columns
    alpha_ms: Floats  # (models, types), of the models that run in batches
    beta_ms: Floats
    engines: dict[int, dict[int, Engine]]  # of LLMs, by model and type
    specs: list[ModelSpec]  # by name
    of_model: dict[str, int]
    on_device: dict[tuple[str, int], int]  # by node and GPU
    span: dict[str, tuple[int, int]]  # the devices of a node, first and one past the last


NOTHING = Registered([], [], {}, np.zeros((0, 0)), np.zeros((0, 0)), {}, [], {}, {}, {})


def registered(
    known: Registered, models: Mapping[str, ModelSpec], devices: Mapping[str, DeviceSpec]
) -> Registered:
    """Return what the registry says: `known`, where that is still so."""
    now = list(models.values()), list(devices.values())
    # Each pair is compared by identity first: 100,000 of them take half a millisecond.
    if known is not NOTHING and now == (known.models, known.devices):
        return known
    specs = [models[name] for name in sorted(models)]
    ordered = sorted(now[1], key=lambda device: (device.node, device.gpu))
    types = sorted({device.device_type for device in ordered})
    alpha, beta = np.full((2, len(specs), len(types)), math.nan)
    engines: dict[int, dict[int, Engine]] = {}
    for m, spec in enumerate(specs):
        if spec.kind == "llm":
            engines[m] = {}
        for t, name in enumerate(types):
            law = spec.law.get(name)
            if isinstance(law, BatchLaw):
                alpha[m, t], beta[m, t] = law.alpha_ms, law.beta_ms
            elif isinstance(law, StepLaw):
                engines[m][t] = Engine(*(getattr(law, part) for part in Engine._fields))
    span: dict[str, tuple[int, int]] = {}
    for d, device in enumerate(ordered):
        span[device.node] = (span.get(device.node, (d, d))[0], d + 1)
    return Registered(
        now[0],
        now[1],
        {**_of_models(specs), **_of_devices(ordered, types, list(span))},
        alpha,
        beta,
        engines,
        specs,
        {spec.name: m for m, spec in enumerate(specs)},
        {(device.node, device.gpu): d for d, device in enumerate(ordered)},
        span,
    )


def _of_models(models: list[ModelSpec]) -> Columns:
    def whole(name: str) -> Any:
        return np.array([getattr(model, name) for model in models], np.int64)

    objective_ms = [model.objective.latency_ms for model in models]
    resident = np.array([model.resident_bytes for model in models], np.int64)
    llm = np.array([model.kind == "llm" for model in models], np.bool_)
    return {
        "models": tuple(model.name for model in models),
        "objective_ms": np.array(objective_ms, np.float64),
        "weights_bytes": resident - whole("activation_bytes"),
        "activation_bytes": whole("activation_bytes"),
        "request_bytes": np.where(llm, 0, whole("request_bytes")),
        **{name: whole(name) for name in ("batch_max", "gpus", "replicas_min", "replicas_max")},
    }


def _of_devices(devices: list[DeviceSpec], types: list[str], nodes: list[str]) -> Columns:
    type_of = {name: t for t, name in enumerate(types)}
    node_of = {name: n for n, name in enumerate(nodes)}
    return {
        "device_types": tuple(types),
        "devices": tuple(device.device for device in devices),
        "nodes": tuple(nodes),
        "device_node": np.array([node_of[device.node] for device in devices], np.int64),
        "device_gpu": np.array([device.gpu for device in devices], np.int64),
        "device_type": np.array([type_of[device.device_type] for device in devices], np.int64),
        "memory_total": np.array([device.memory_bytes for device in devices], np.int64),
    }
