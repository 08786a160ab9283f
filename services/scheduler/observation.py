"""From the view's messages to the arrays of one tick. Nothing is decided here.

What a forecast or a score says that is no finite number counts as not known.
"""

import math
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.messages import DeviceSpec, FleetState, ModelSpec, Override
from services.scheduler.core.continuous import (
    OUTPUT_TOKENS_GUESS,
    PROMPT_TOKENS_GUESS,
    equivalent,
)
from services.scheduler.core.contracts import QUANTILES, Floats, Observation, State
from services.scheduler.overrides import in_force
from services.scheduler.registry import NOTHING, Columns, Registered, registered
from services.scheduler.reports import NEVER_MS, NOBODY, Reported, reported

NAN = math.nan
# Fields of a forecast that may be absent.
_OPTIONAL = ("arrival_rate_rps", "queue_requests", "in_flight_requests", "slo_ratio_p98")
Forecasts = Sequence[pb.LoadForecast | None]  # one a model, None: none yet


@dataclass(eq=False)
class Sources:
    """What a tick is made from, by name: the latest of each; the `View` keeps them from the bus.

    Specs and reports are replaced by newer ones and never changed where they stand: what the last
    tick made of them is kept beside them.
    """

    models: dict[str, ModelSpec]
    devices: dict[str, DeviceSpec]
    fleet: dict[str, FleetState] = field(default_factory=dict)  # by node
    forecasts: dict[str, pb.LoadForecast] = field(default_factory=dict)  # by model
    scores: dict[str, pb.NodeScore] = field(default_factory=dict)  # by node
    overrides: dict[str, Override] = field(default_factory=dict)  # by target
    failures: MutableSequence[str] = field(default_factory=list)  # ids of commands
    registered: Registered = NOTHING
    reported: Reported = NOBODY


def observe(view: Sources, state: State, epoch: int, tick: int, now_ms: int) -> Observation:
    """Return what a tick at `now_ms` sees; of failures, those of orders still on their way."""
    listed = view.registered = registered(view.registered, view.models, view.devices)
    view.reported = reported(view.reported, listed, view.fleet)
    forecasts = list(map(view.forecasts.get, listed.columns["models"]))
    return Observation(
        epoch=epoch,
        tick=tick,
        now_ms=now_ms,
        **listed.columns | in_force(view.overrides, listed, now_ms),
        **view.reported.columns,
        **_laws(listed, forecasts),
        **_forecasts(forecasts),
        node_score=_scores(view, listed),
        failed=_failed(view, state),
    )


def _failed(view: Sources, state: State) -> tuple[str, ...]:
    if not state.move_ids or not view.failures:
        return ()
    return tuple(sorted(set(state.move_ids) & set(view.failures)))


def _scores(view: Sources, listed: Registered) -> Floats:
    """Return the score of each device's node, (devices,)."""
    scores = np.full(len(listed.columns["devices"]), NAN)
    for node, score in view.scores.items():
        if node in listed.span:
            start, end = listed.span[node]
            scores[start:end] = _finite(score.score)
    return scores


def _laws(listed: Registered, forecasts: Forecasts) -> Columns:
    """Return laws and lead times, (models, types): as measured, else as the model says."""
    types: tuple[str, ...] = listed.columns["device_types"]
    alpha, beta, lead = (
        listed.alpha_ms.copy(),
        listed.beta_ms.copy(),
        np.full_like(listed.alpha_ms, NAN),
    )
    answer = np.full(len(forecasts), NAN)
    for m in listed.engines:
        answer[m] = _engines(m, listed, forecasts[m], alpha, beta)
    for m, forecast in enumerate(forecasts):
        if forecast is None:
            continue
        lead_time_ms, law = forecast.lead_time_ms, forecast.law
        for t, name in enumerate(types):
            if name in lead_time_ms:
                lead[m, t] = _finite(lead_time_ms[name])
            if name in law:
                measured = law[name]
                alpha_ms, beta_ms = measured.alpha_ms, measured.beta_ms
                if 0 <= alpha_ms < math.inf > beta_ms > 0:
                    alpha[m, t], beta[m, t] = alpha_ms, beta_ms
    return {"alpha_ms": alpha, "beta_ms": beta, "answer_ms": answer, "lead_time_ms": lead}


def _engines(
    m: int, listed: Registered, forecast: pb.LoadForecast | None, alpha: Floats, beta: Floats
) -> float:
    """Set an LLM's equivalent laws, and return the time of an answer: the shortest."""
    spec = listed.specs[m]
    prompt, output = PROMPT_TOKENS_GUESS, OUTPUT_TOKENS_GUESS
    if forecast is not None and forecast.output_tokens_mean >= 1:
        prompt, output = forecast.prompt_tokens_mean, forecast.output_tokens_mean
    shortest = math.inf
    for t, engine in listed.engines[m].items():
        alpha[m, t], beta[m, t], answer_ms = equivalent(
            engine, prompt, output, spec.objective.tpot_ms, float(spec.kv_tokens)
        )
        shortest = min(shortest, answer_ms)
    return shortest if listed.engines[m] else NAN


def _forecasts(forecasts: Forecasts) -> Columns:
    numbers: list[list[float]] = []
    times_ms: list[tuple[int, int]] = []
    horizons: list[float] = []
    peaks: list[float] = []
    count = [0] * len(forecasts)  # horizons of each
    for m, f in enumerate(forecasts):
        if f is None:
            numbers.append([NAN] * len(_OPTIONAL))
            times_ms.append((NEVER_MS, NEVER_MS))
            continue
        # Absent is not known, which a Protobuf field would otherwise read as 0.
        numbers.append([getattr(f, name) if f.HasField(name) else NAN for name in _OPTIONAL])
        times_ms.append((f.newest_sample_ms, f.next_by_ms))
        of_horizons, of_peaks = f.horizon_ms, f.peak_10s_quantile_rps
        if len(of_peaks) == len(of_horizons) * len(QUANTILES):
            count[m] = len(of_horizons)
            horizons += of_horizons
            peaks += of_peaks
    horizon_ms = _padded(np.array(horizons, np.float64), count)
    peak_rps = _padded(np.array(peaks, np.float64).reshape(-1, len(QUANTILES)), count)
    peak_rps[~np.isfinite(peak_rps)] = NAN
    columns = np.array(numbers, np.float64).reshape(-1, len(_OPTIONAL)).T.copy()
    columns[~np.isfinite(columns)] = NAN
    newest_ms, next_by_ms = np.array(times_ms, np.int64).reshape(-1, 2).T.copy()
    return {
        "newest_sample_ms": newest_ms,
        "next_by_ms": next_by_ms,
        "horizon_ms": horizon_ms,
        "peak_rps": peak_rps,
        **dict(zip(_OPTIONAL, columns, strict=True)),
    }


def _padded(rows: Floats, count: list[int]) -> Floats:
    """Give each model its `count` of the rows, and as many NaN as it lacks of the largest count."""
    width, inner = max(count, default=0), rows.shape[1:]
    if len(rows) == len(count) * width:  # as a rule, since one predictor has made them all
        return rows.reshape(len(count), width, *inner)
    padded = np.full((len(count), width, *inner), NAN)
    padded[np.arange(width) < np.array(count)[:, None]] = rows
    return padded


def _finite(value: float) -> float:
    return value if math.isfinite(value) else NAN
