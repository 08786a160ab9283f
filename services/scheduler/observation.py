"""From the view's messages to the arrays of one tick. Nothing is decided here.

What a forecast or a score says that is no finite number counts as not known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.messages import BatchLaw, DeviceSpec, FleetState, ModelSpec, ReplicaState, StepLaw
from services.scheduler.core.continuous import (
    OUTPUT_TOKENS_GUESS,
    PROMPT_TOKENS_GUESS,
    Engine,
    equivalent,
)
from services.scheduler.core.contracts import (
    QUANTILES,
    STAGES,
    Floats,
    Ints,
    Observation,
    State,
)
from services.scheduler.view import View

NAN = math.nan
NEVER_MS = -1


@dataclass
class Sources:
    """What a tick is made from, by name: the latest of each; the `View` keeps them from the bus."""

    models: dict[str, ModelSpec]
    devices: dict[str, DeviceSpec]
    fleet: dict[str, FleetState] = field(default_factory=dict)  # by node
    forecasts: dict[str, pb.LoadForecast] = field(default_factory=dict)  # by model
    scores: dict[str, pb.NodeScore] = field(default_factory=dict)  # by node
    failures: list[str] = field(default_factory=list)  # ids of commands


Columns = dict[str, Any]  # fields of `Observation` by name
Forecasts = Sequence[pb.LoadForecast | None]  # one a model, None: none yet


def observe(view: View | Sources, state: State, epoch: int, tick: int, now_ms: int) -> Observation:
    """Return what a tick at `now_ms` sees; of failures, those of orders still on their way."""
    models = [view.models[name] for name in sorted(view.models)]
    devices = sorted(view.devices.values(), key=lambda device: (device.node, device.gpu))
    types = sorted({device.device_type for device in devices})
    forecasts = [view.forecasts.get(model.name) for model in models]
    return Observation(
        epoch=epoch,
        tick=tick,
        now_ms=now_ms,
        **_of_models(models),
        **_laws(models, forecasts, types),
        **_forecasts(forecasts),
        **_of_devices(view, devices, types),
        **_replicas(view, models, devices),
        failed=tuple(sorted(set(state.move_ids) & set(view.failures))),
    )


def _of_models(models: Sequence[ModelSpec]) -> Columns:
    def whole(name: str) -> Ints:
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


def _laws(models: Sequence[ModelSpec], forecasts: Forecasts, types: Sequence[str]) -> Columns:
    """Return laws and lead times, (models, types): as measured, else as the model says."""
    alpha, beta, lead = np.full((3, len(models), len(types)), NAN)
    answer = np.full(len(models), NAN)
    for m, (model, forecast) in enumerate(zip(models, forecasts, strict=True)):
        if model.kind == "llm":
            alpha[m], beta[m], answer[m] = _engine(model, forecast, types)
        for t, name in enumerate(types):
            law = model.law.get(name)
            if isinstance(law, BatchLaw):
                alpha[m, t], beta[m, t] = law.alpha_ms, law.beta_ms
            if forecast is None:
                continue
            if name in forecast.lead_time_ms:
                lead[m, t] = _finite(forecast.lead_time_ms[name])
            if name in forecast.law:
                measured = forecast.law[name]
                if 0 <= measured.alpha_ms < math.inf > measured.beta_ms > 0:
                    alpha[m, t], beta[m, t] = measured.alpha_ms, measured.beta_ms
    return {
        "device_types": tuple(types),
        "alpha_ms": alpha,
        "beta_ms": beta,
        "answer_ms": answer,
        "lead_time_ms": lead,
    }


def _engine(
    model: ModelSpec, forecast: pb.LoadForecast | None, types: Sequence[str]
) -> tuple[Floats, Floats, float]:
    """Return an LLM's equivalent law, (types,) each, and the time of an answer: the shortest."""
    prompt, output = PROMPT_TOKENS_GUESS, OUTPUT_TOKENS_GUESS
    if forecast is not None and forecast.output_tokens_mean >= 1:
        prompt, output = forecast.prompt_tokens_mean, forecast.output_tokens_mean
    parts = np.full((len(Engine._fields), len(types)), NAN)
    for t, name in enumerate(types):
        law = model.law.get(name)
        if isinstance(law, StepLaw):
            parts[:, t] = [getattr(law, field) for field in Engine._fields]
    alpha, beta, answer = equivalent(
        Engine(*parts), prompt, output, model.objective.tpot_ms, float(model.kv_tokens)
    )
    return alpha, beta, float(np.fmin.reduce(answer))


def _forecasts(forecasts: Forecasts) -> Columns:
    def number(name: str) -> Floats:
        # Absent is not known, which a Protobuf field would otherwise read as 0.
        values = [
            _finite(getattr(f, name)) if f is not None and f.HasField(name) else NAN
            for f in forecasts
        ]
        return np.array(values, np.float64)

    width = max((len(f.horizon_ms) for f in forecasts if f is not None), default=0)
    horizon_ms = np.full((len(forecasts), width), NAN)
    peak_rps = np.full((len(forecasts), width, len(QUANTILES)), NAN)
    for m, f in enumerate(forecasts):
        if f is None or len(f.peak_10s_quantile_rps) != len(f.horizon_ms) * len(QUANTILES):
            continue
        horizon_ms[m, : len(f.horizon_ms)] = f.horizon_ms
        quantiles = np.array(f.peak_10s_quantile_rps).reshape(-1, len(QUANTILES))
        peak_rps[m, : len(quantiles)] = np.where(np.isfinite(quantiles), quantiles, NAN)
    newest_ms = [NEVER_MS if f is None else f.newest_sample_ms for f in forecasts]
    next_by_ms = [NEVER_MS if f is None else f.next_by_ms for f in forecasts]
    return {
        "newest_sample_ms": np.array(newest_ms, np.int64),
        "next_by_ms": np.array(next_by_ms, np.int64),
        "arrival_rate_rps": number("arrival_rate_rps"),
        "queue_requests": number("queue_requests"),
        "in_flight_requests": number("in_flight_requests"),
        "slo_ratio_p98": number("slo_ratio_p98"),
        "horizon_ms": horizon_ms,
        "peak_rps": peak_rps,
    }


def _of_devices(
    view: View | Sources, devices: Sequence[DeviceSpec], types: Sequence[str]
) -> Columns:
    scores = [
        _finite(view.scores[device.node].score) if device.node in view.scores else NAN
        for device in devices
    ]
    reported_ms = [
        view.fleet[device.node].at_ms if device.node in view.fleet else NEVER_MS
        for device in devices
    ]
    free = {
        (name, gpu.gpu): gpu.memory_bytes_free
        for name, node in view.fleet.items()
        for gpu in node.gpus
    }
    of_type = [types.index(device.device_type) for device in devices]
    memory_free = [free.get((device.node, device.gpu), -1) for device in devices]
    return {
        "devices": tuple(device.device for device in devices),
        "device_node": tuple(device.node for device in devices),
        "device_gpu": np.array([device.gpu for device in devices], np.int64),
        "device_type": np.array(of_type, np.int64),
        "node_score": np.array(scores, np.float64),
        "reported_ms": np.array(reported_ms, np.int64),
        "memory_total": np.array([device.memory_bytes for device in devices], np.int64),
        "memory_free": np.array(memory_free, np.int64),
    }


def _replicas(
    view: View | Sources, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]
) -> Columns:
    of_model = {model.name: m for m, model in enumerate(models)}
    on_device = {(device.node, device.gpu): d for d, device in enumerate(devices)}
    rows: list[tuple[ReplicaState, list[int]]] = []
    for name in sorted(view.fleet):
        for replica in view.fleet[name].replicas:
            places = [on_device.get((name, gpu), -1) for gpu in replica.gpus]
            # A GPU that is not registered (yet) cannot be planned with, nor what is in host memory.
            if places and min(places) >= 0 and replica.state != "host":
                rows.append((replica, places))
    widest = max((len(places) for _, places in rows), default=1)
    padded = [places + [-1] * (widest - len(places)) for _, places in rows]
    model = [of_model.get(replica.model, -1) for replica, _ in rows]
    stage = [STAGES.index(replica.state) for replica, _ in rows]
    memory = [replica.memory_bytes for replica, _ in rows]
    return {
        "replicas": tuple(replica.replica for replica, _ in rows),
        "replica_model": np.array(model, np.int64),
        "replica_stage": np.array(stage, np.int64),
        "replica_memory_bytes": np.array(memory, np.int64),
        "replica_devices": np.array(padded, np.int64).reshape(len(rows), widest),
    }


def _finite(value: float) -> float:
    return value if math.isfinite(value) else NAN
