"""Makes `report.json` out of a recording. Definitions: "Definitions" in docs/architecture.md.

The window is [start, start + duration): all arrivals and GPU-time within it count, and requests
that have no end when draining is over are lost, which counts as missed.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client.parser import text_string_to_metric_families

from cli.figures import increase, quantile, quantile_of_buckets, wape
from cli.recording import Foreseen, Recording
from libs.common import series
from libs.common.messages import InferenceResult

KIND_NOTE = "every model is of kind batch; token counts ride along and cost no time"
LOOP_LATENCY = "plimsoll_loop_latency_seconds"

Buckets = Mapping[float, float]  # upper edge in seconds -> cumulated count


class Window(NamedTuple):
    """What was driven, and when."""

    start_ms: int
    duration_s: float
    trace: str | None
    copies: int
    seed: int

    @property
    def end_ms(self) -> float:
        """The first moment after the window."""
        return self.start_ms + 1000 * self.duration_s


def report_of(
    recording: Recording,
    window: Window,
    sent: Mapping[str, int],
    loop_before: Buckets,
    loop_after: Buckets,
    restarts: Mapping[str, int],
) -> dict[str, Any]:
    """Return the report as JSON types. `sent` counts acknowledged sends by model."""
    ends = list(recording.ends.values())
    statuses = [end.status for end in ends]
    lost = max(0, sum(sent.values()) - len(ends))
    models = {name: _model(recording, name, count) for name, count in sorted(sent.items())}
    shares = [model["slo_attainment"] for model in models.values() if model["requests"]["in"]]
    gpu = gpu_time(recording, window)
    claims = [c for c in recording.claims_by_epoch.values() if c.at_ms >= window.start_ms]
    return {
        "trace": window.trace,
        "copies": window.copies,
        "seed": window.seed,
        "duration_s": window.duration_s,
        "requests": {
            "in": sum(sent.values()),
            "ok": statuses.count("ok"),
            "rejected": statuses.count("rejected"),
            "late": statuses.count("late"),
            "lost": lost,
        },
        "repeated_ends": recording.repeated_ends,
        "gpu_hours": gpu["hours"],
        "slo_attainment": min(shares, default=None),
        "latency_ms": _latency_ms(ends, lost),
        "gpu_busy_share": gpu["busy_share"],
        "gpu_busy_split": gpu["busy_split"],
        "loop_latency_ms": loop_latency_ms(loop_before, loop_after),
        "commands": {
            **{kind: len(recording.commands[kind]) for kind in ("scaling", "batch", "placement")},
            "acknowledged": len(set().union(*recording.commands.values()) & recording.acknowledged),
        },
        "oom_events": gpu["oom_events"],
        "forecast_wape": _rounded(wape(_matured(recording, window, list(sent)))),
        "leader_changes": len(claims),
        "dead_letters": recording.view.dead_letters,
        "restarts": sum(restarts.values()),
        "models": models,
        "note": KIND_NOTE,
    }


def gpu_time(recording: Recording, window: Window) -> dict[str, Any]:
    """Return GPU-hours by charge, the busy share and its split, and out-of-memory events.

    Loading is GPU-time in which a replica was on its way in and nothing else ran.
    """
    devices = {device for moment in recording.moments for device in moment.devices}
    fleet_s = len(devices) * window.duration_s
    ends_ms = np.array([window.start_ms, window.end_ms])
    total = {
        name: float(np.diff(recording.counted(name, ends_ms))[0])
        for name in (
            series.GPU_SERVING_S,
            series.GPU_TRAINING_S,
            series.GPU_BUSY_SERVING_S,
            series.GPU_BUSY_TRAINING_S,
            series.OOM,
        )
    }
    busy_serving_s = total[series.GPU_BUSY_SERVING_S]
    busy_training_s = total[series.GPU_BUSY_TRAINING_S]
    loading_s = _loading_s(recording, window)
    idle_s = max(0.0, fleet_s - busy_serving_s - busy_training_s - loading_s)

    def share(seconds: float) -> float | None:
        return round(seconds / fleet_s, 4) if fleet_s else None

    return {
        "hours": {
            "serving": round(total[series.GPU_SERVING_S] / 3600, 5),
            "training": round(total[series.GPU_TRAINING_S] / 3600, 5),
            "total": round(fleet_s / 3600, 5),
        },
        "busy_share": share(busy_serving_s + busy_training_s),
        "busy_split": {
            "serving": share(busy_serving_s),
            "training": share(busy_training_s),
            "loading": share(loading_s),
            "idle": share(idle_s),
        },
        "oom_events": round(total[series.OOM]),
    }


def loop_buckets(metrics_page: str) -> dict[float, float]:
    """Return the loop latency histogram of an executor's `/metrics`; empty where it has none."""
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(metrics_page)
        if family.name == LOOP_LATENCY
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }


def loop_latency_ms(before: Buckets, after: Buckets) -> dict[str, float | None]:
    """Return p50 and p99 of what a histogram gained between two readings."""
    edges = np.array(sorted(after))
    gained = np.array([increase(before.get(edge, 0.0), after[edge]) for edge in edges])
    counts = np.diff(gained, prepend=0.0)
    return {
        name: _finite(quantile_of_buckets(counts, edges[:-1], q), scale=1000)
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }


def matured(
    forecasts: list[Foreseen], due_ms: Mapping[str, npt.NDArray[np.int64]], window: Window
) -> list[tuple[float, float]]:
    """Pair forecasts with what came: those whose horizon lies wholly within the window.

    `due_ms` are the due times of each model's requests, sorted. Rates are in requests a second.
    """
    pairs = []
    for foreseen in forecasts:
        until_ms = foreseen.at_ms + foreseen.horizon_ms
        due = due_ms.get(foreseen.model)
        if due is None or foreseen.at_ms < window.start_ms or until_ms > window.end_ms:
            continue
        begin, end = np.searchsorted(due, [foreseen.at_ms, until_ms], side="right")
        pairs.append((foreseen.mean_rps, float(end - begin) / (foreseen.horizon_ms / 1000)))
    return pairs


def _matured(recording: Recording, window: Window, models: list[str]) -> list[tuple[float, float]]:
    due_ms = {
        name: np.array(
            sorted(end.due_at_ms for end in recording.ends.values() if end.model == name),
            dtype=np.int64,
        )
        for name in models
    }
    return matured(recording.forecasts, due_ms, window)


def _model(recording: Recording, name: str, sent: int) -> dict[str, Any]:
    ends = [end for end in recording.ends.values() if end.model == name]
    statuses = [end.status for end in ends]
    lost = max(0, sent - len(ends))
    spec = recording.view.model(name).spec
    return {
        "requests": {
            "in": sent,
            "ok": statuses.count("ok"),
            "rejected": statuses.count("rejected"),
            "late": statuses.count("late"),
            "lost": lost,
        },
        "slo_attainment": round(statuses.count("ok") / sent, 5) if sent else None,
        "objective_ms": spec.objective.latency_ms if spec else None,
        "latency_ms": _latency_ms(ends, lost),
        "prompt_tokens": sum(end.prompt_tokens for end in ends),
        "output_tokens": sum(end.output_tokens for end in ends),
    }


def _latency_ms(ends: list[InferenceResult], lost: int) -> dict[str, float | None]:
    """p50 and p99 over all arrivals: what was rejected or lost took for ever, which is null."""
    values = [math.inf if end.status == "rejected" else end.latency_ms for end in ends]
    values += [math.inf] * lost
    return {"p50": _finite(quantile(values, 0.5)), "p99": _finite(quantile(values, 0.99))}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _finite(value: float | None, scale: float = 1.0) -> float | None:
    return round(value * scale, 1) if value is not None and math.isfinite(value) else None


def _loading_s(recording: Recording, window: Window) -> float:
    loading_s = 0.0
    inside = [m for m in recording.moments if window.start_ms <= m.at_ms <= window.end_ms]
    for before, after in pairwise(inside):
        for device in after.loading & before.devices.keys():
            old, new = before.devices[device], after.devices[device]
            busy_s = sum(
                new.totals.get(name, 0.0) - old.totals.get(name, 0.0)
                for name in (series.GPU_BUSY_SERVING_S, series.GPU_BUSY_TRAINING_S)
            )
            loading_s += max(0.0, (new.at_ms - old.at_ms) / 1000 - busy_s)
    return loading_s
