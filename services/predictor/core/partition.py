"""One partition of `metrics.samples`: its sources, what a tick does, and what there is to say.

`step` folds one tick; `forecasts` and `scores` make the messages, and are asked only when one can
be sent, since each supersedes the one before.
"""

from math import isnan
from typing import Literal, NamedTuple

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from services.predictor.core import arrivals, latency, laws, node_scores, residuals, tokens
from services.predictor.core import source as sources
from services.predictor.core.columns import check
from services.predictor.core.node_scores import Shares
from services.predictor.core.registry import Registry
from services.predictor.core.residuals import FIVE, LEAD, SECOND, TICK
from services.predictor.core.source import Policy, Sight, Source

AHEAD_MS = 60_000  # a clock further ahead than this is wrong
HOLD_MS_MAX = 3_600_000  # values that would hold for longer would never be stale
FORGET_MS = 120_000  # a source so long overdue is gone

Skipped = Literal["", "late", "repeated", "too_many_series"]


class Partition(NamedTuple):
    """The state: what is known of each source, by name, in order of appearance."""

    sources: dict[str, Source]


class Account(NamedTuple):
    """How a model's forecasts fare at the lead time, for people; see `Residuals`. NaN: not yet."""

    arrival_rate_rps: float
    lead_time_s: float
    band_rps: list[float]  # foreseen now, (BAND,)
    due_rps: list[float]  # foreseen a lead time ago, (BAND,)
    came_rps: float  # over the lead time that ends now
    judged: float
    covered: list[float]  # (BAND,)
    error_rps: float
    actual_rps: float


class Outcome(NamedTuple):
    """What a tick did."""

    skipped: Skipped = ""  # why nothing was taken in; empty: it was
    models: bool = False  # forecasts have changed
    nodes: bool = False  # scores have changed


def step(
    state: Partition, sight: Sight, registry: Registry, policy: Policy, now_ms: int
) -> tuple[Partition, Outcome]:
    """Take in one tick. One that is not newer than its source's last changes nothing.

    The times of a source order its ticks: a sequence begins anew when a source does.

    Raises:
        ContractError: times or values that cannot be true.
    """
    _check_times(sight, now_ms)
    known = state.sources.get(sight.source)
    if known is not None and sight.at_ms <= known.at_ms:
        return state, Outcome("repeated" if sight.at_ms == known.at_ms else "late")
    if known is None:
        known = sources.begin(sight.layout, registry, policy)
    elif known.layout.layout_id != sight.layout.layout_id or known.registry is not registry:
        known = sources.resume(known, sight.layout, registry, policy)
    check(known.columns, sight.values)
    kept = {
        name: source
        for name, source in state.sources.items()
        if source.next_by_ms + FORGET_MS >= sight.at_ms
    }
    others = sum(len(s.columns.keys) for name, s in kept.items() if name != sight.source)
    if others + len(known.columns.keys) > policy.series_max:
        return state, Outcome("too_many_series")
    kept[sight.source] = sources.see(known, sight, policy)
    return Partition(kept), Outcome("", bool(known.columns.models), bool(known.columns.nodes))


def series_count(state: Partition) -> int:
    """Return how many series the partition holds."""
    return sum(len(source.columns.keys) for source in state.sources.values())


def forecasts(state: Partition, partition: int, policy: Policy) -> pb.LoadForecasts:
    """Return what is known and foreseen of every model of the partition.

    A model that two sources report is that of the one seen first, until it is forgotten.
    """
    newest_ms = max((source.at_ms for source in state.sources.values()), default=0)
    said: dict[str, pb.LoadForecast] = {}
    for source in state.sources.values():
        for forecast in _of_source(source, policy) if source.columns.models else ():
            said.setdefault(forecast.model, forecast)
    return pb.LoadForecasts(partition=partition, at_ms=newest_ms, forecasts=said.values())


def scores(state: Partition, partition: int, policy: Policy) -> pb.NodeScores:
    """Return the score of every node of the partition of which cpu and memory are known."""
    telling = [source for source in state.sources.values() if source.columns.nodes]
    message = pb.NodeScores(
        partition=partition, at_ms=max((source.at_ms for source in telling), default=0)
    )
    if not telling:
        return message
    names = [name for source in telling for name in source.columns.nodes]
    row = {name: at for at, name in enumerate(dict.fromkeys(names))}
    at = np.array([row[name] for name in names])
    newest_ms = np.zeros(len(row))
    next_by_ms = np.full(len(row), np.inf)
    widths = [len(source.columns.nodes) for source in telling]
    np.maximum.at(newest_ms, at, np.repeat([float(s.at_ms) for s in telling], widths))
    # A score is as fresh as the oldest part of it.
    np.minimum.at(next_by_ms, at, np.repeat([float(s.next_by_ms) for s in telling], widths))
    parts = []
    for field in Shares._fields:
        told = np.concatenate([getattr(source.shares, field) for source in telling])
        merged = np.full(len(row), np.nan)
        merged[at[~np.isnan(told)]] = told[~np.isnan(told)]
        parts.append(merged)
    score = node_scores.scores(Shares(*parts), policy.weights)
    for name, place in row.items():
        if not np.isnan(score[place]):
            message.scores.add(
                node=name,
                score=score[place],
                newest_sample_ms=int(newest_ms[place]),
                next_by_ms=int(next_by_ms[place]),
            )
    return message


def accounts(state: Partition, policy: Policy) -> dict[str, Account]:
    """Return, by model, how its forecasts fare. Sums run from the start of this state."""
    said: dict[str, Account] = {}
    for source in state.sources.values():
        if not source.columns.models:
            continue
        record, lead_s = source.record, sources.lead_s(source, policy)
        now = arrivals.outlook(source.arrivals, source.at_ms % 1000 / 1000)
        for row, name in enumerate(source.columns.models):
            account = Account(
                float(now.level_rps[row] + now.excess_rps[row]),
                float(lead_s[row]),
                record.bands[row, :, -1].tolist(),
                record.due[row].tolist(),
                float(record.came[row]),
                float(record.judged[row]),
                record.covered[row].tolist(),
                float(record.error[row]),
                float(record.actual[row]),
            )
            said.setdefault(name, account)
    return said


def _of_source(source: Source, policy: Policy) -> list[pb.LoadForecast]:
    """Return the forecasts of one source's models, in the order of its columns."""
    now = arrivals.outlook(source.arrivals, source.at_ms % 1000 / 1000)
    horizon_s = sources.lead_s(source, policy)
    mean, quantiles, peaks = residuals.foresee(source.record, now, horizon_s)
    rate_rps = now.level_rps + now.excess_rps
    prompt, output = tokens.means(source.tokens)
    optional = {
        "arrival_rate_rps": rate_rps.tolist(),
        "dispersion": source.arrivals.dispersion.tolist(),
        "queue_requests": source.queue.tolist(),
        "in_flight_requests": source.in_flight.tolist(),
        "slo_ratio_p98": latency.slo_ratio_p98(source.ends).tolist(),
        "prompt_tokens_mean": prompt.tolist(),
        "output_tokens_mean": output.tolist(),
    }
    said = []
    for row, name in enumerate(source.columns.models):
        known = {field: value[row] for field, value in optional.items() if not isnan(value[row])}
        forecast = pb.LoadForecast(
            model=name,
            at_ms=source.at_ms,
            newest_sample_ms=source.at_ms,
            next_by_ms=source.next_by_ms,
            **known,
        )
        if "arrival_rate_rps" in known:
            places, horizons_ms = _horizons(horizon_s[row])
            forecast.horizon_ms.extend(horizons_ms)
            forecast.mean_rps.extend(mean[row, places].tolist())
            forecast.quantile_rps.extend(quantiles[row, places].ravel().tolist())
            forecast.peak_10s_quantile_rps.extend(peaks[row, places].ravel().tolist())
        said.append(forecast)
    _add_laws(said, source, policy)
    return said


def _horizons(lead_s: float) -> tuple[list[int], list[int]]:
    """Return the published horizons in ms, rising and distinct, after their places in the record.

    The lead time is one where it is known, and not 5 s itself.
    """
    places, horizons_ms = [TICK, SECOND, FIVE], [200, 1000, 5000]
    if isnan(lead_s) or lead_s <= 5:
        return places, horizons_ms
    return [*places, LEAD], [*horizons_ms, int(lead_s) * 1000]


def _add_laws(said: list[pb.LoadForecast], source: Source, policy: Policy) -> None:
    lead_ms = sources.lead_time_ms(source, policy)
    alpha_ms, beta_ms = laws.fit(source.batches, source.priors.law, source.priors.batch_max)
    for place, (model, (_, device_type)) in enumerate(
        zip(source.columns.model_of_pair, source.columns.pairs, strict=True)
    ):
        if not np.isnan(lead_ms[place]):
            said[model].lead_time_ms[device_type] = lead_ms[place]
        if not np.isnan(beta_ms[place]):
            law = said[model].law[device_type]
            law.alpha_ms, law.beta_ms = alpha_ms[place], beta_ms[place]
            law.batches = int(source.batches.seen[place])


def _check_times(sight: Sight, now_ms: int) -> None:
    if not 0 < sight.at_ms <= now_ms + AHEAD_MS:
        raise ContractError(f"at_ms {sight.at_ms} is not in 1 to {now_ms + AHEAD_MS}, now and 60 s")
    if not sight.at_ms <= sight.next_by_ms <= sight.at_ms + HOLD_MS_MAX:
        raise ContractError(
            f"next_by_ms {sight.next_by_ms} is not in {sight.at_ms} to an hour after it"
        )
