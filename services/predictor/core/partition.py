"""One partition of `metrics.samples`: its sources, what a tick does, and what there is to say.

`step` folds one tick; `forecasts` and `scores` make the messages, and are asked only when one can
be sent, since each supersedes the one before.
"""

from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from services.predictor.core import fold, methods, node_scores, profiles, telling
from services.predictor.core import source as sources
from services.predictor.core.announcements import NOTHING_ANNOUNCED, Announced
from services.predictor.core.columns import Floats, Ints
from services.predictor.core.node_scores import RESOURCES
from services.predictor.core.registry import Registry
from services.predictor.core.source import Policy, Sight, Source
from services.predictor.core.triggers import NOTHING_KNOWN

AHEAD_MS = 60_000  # a clock further ahead than this is wrong
HOLD_MS_MAX = 3_600_000  # values that would hold for longer would never be stale
FORGET_MS = 120_000  # a source so long overdue is gone

Skipped = Literal["", "late", "repeated", "too_many_series"]


class Partition(NamedTuple):
    """The state: what is known of each source, by name, in order of appearance.

    A tick changes its source in place, so the state that went into `step` is used up; who wants
    both takes a copy before.
    """

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
    # What is known ahead: lifts announced, and foreseen as they recur; by how much they raise the
    # mean over the lead time; and by kind, which part of those announced came, their median.
    announced: int
    foreseen: int
    lift_rps: float
    gains: list[float]
    methods: list[float]  # the part of each of `methods.NAMES` in the mean at the lead time


class Outcome(NamedTuple):
    """What a tick did."""

    skipped: Skipped = ""  # why nothing was taken in; empty: it was
    models: bool = False  # forecasts have changed
    nodes: bool = False  # scores have changed
    forgotten: int = 0  # sources that were long overdue


def step(
    state: Partition,
    sight: Sight,
    registry: Registry,
    policy: Policy,
    now_ms: int,
    announced: Announced = NOTHING_ANNOUNCED,
) -> tuple[Partition, Outcome]:
    """Take in one tick. One that is not newer than its source's last changes nothing.

    The times of a source order its ticks: a sequence begins anew when a source does. `now_ms` is
    the time of the record, not of who reads it: the same records leave the same state, whenever.

    Raises:
        ContractError: times or values that cannot be true.
    """
    _check_times(sight, now_ms)
    known = state.sources.get(sight.source)
    if known is not None and sight.at_ms <= known.at_ms:
        return state, Outcome("repeated" if sight.at_ms == known.at_ms else "late")
    came_back = known is not None and _is_gone(known, sight.at_ms)
    if came_back:
        known = None  # and starts anew
    new_second = known is None or sight.at_ms // 1000 > known.at_ms // 1000
    if known is None:
        known = sources.begin(sight.layout, registry, policy)
    elif known.layout.layout_id != sight.layout.layout_id or known.registry is not registry:
        known = sources.resume(known, sight.layout, registry, policy)
    kept, forgotten = state.sources, 0
    if new_second or kept[sight.source] is not known:
        # Looking at all sources once a second of each is often enough.
        kept = {
            name: source
            for name, source in kept.items()
            if name == sight.source or not _is_gone(source, sight.at_ms)
        }
        forgotten = len(state.sources.keys() - kept.keys()) + came_back
        kept[sight.source] = known
        if series_count(Partition(kept)) > policy.series_max:
            return state, Outcome("too_many_series")
    if known.announced is not announced:
        sources.hear(known, announced)
    sources.see(known, sight, policy)
    models, nodes = bool(known.columns.models), bool(known.columns.nodes)
    return Partition(kept), Outcome("", models, nodes, forgotten)


def copied(state: Partition) -> Partition:
    """Return a state that no later step changes."""
    return Partition({name: sources.copied(source) for name, source in state.sources.items()})


def series_count(state: Partition) -> int:
    """Return how many series the partition holds."""
    return sum(len(source.columns.keys) for source in state.sources.values())


def forecasts(state: Partition, partition: int, policy: Policy) -> pb.LoadForecasts:
    """Return what is known and foreseen of every model of the partition.

    A model that two sources report is that of the one seen first, until it is forgotten.
    """
    newest_ms = max((source.at_ms for source in state.sources.values()), default=0)
    message = pb.LoadForecasts(partition=partition, at_ms=newest_ms)
    said: set[str] = set()
    for source in state.sources.values():
        if source.columns.models:
            telling.tell(message, source, said, policy)
    return message


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
    merged = node_scores.nothing_seen(len(row), policy.bandwidth)
    for field in RESOURCES:
        told = np.concatenate([source.shares[field] for source in telling])
        merged[field][at[~np.isnan(told)]] = told[~np.isnan(told)]
    score = node_scores.scores(merged, policy.weights)
    peak = _busier(at, len(row), [profiles.day_peak(s.days, s.at_ms) for s in telling])
    mean = _busier(at, len(row), [profiles.hour_means(s.days, s.at_ms) for s in telling])
    kind, low = profiles.classify(peak), profiles.low_hours(mean)
    for name, place in row.items():
        if np.isnan(score[place]):
            continue
        said = message.scores.add(
            node=name,
            score=score[place],
            newest_sample_ms=int(newest_ms[place]),
            next_by_ms=int(next_by_ms[place]),
            profile=int(kind[place]),
        )
        if kind[place] != pb.NodeScore.UNKNOWN:
            said.low_hours = int(low[place])
    return message


def _busier(at: Ints, nodes: int, told: list[Floats]) -> Floats:
    """Return, of what sources tell of nodes, the most for each; a node's sources add resources."""
    each = np.concatenate(told)
    most = np.full((nodes, *each.shape[1:]), np.nan)
    np.fmax.at(most, at, each)
    return most


def accounts(state: Partition, policy: Policy, models: Collection[str]) -> dict[str, Account]:
    """Return how the forecasts of `models` fare, by model, of those that the partition knows.

    Sums run from the start of this state.
    """
    accounts: dict[str, Account] = {}
    for source in state.sources.values():
        if not any(name in models for name in source.columns.models):
            continue
        said, _ = sources.foresee(source, policy)
        unlifted = said.copy()
        telling.count_in(source, said)
        tables = (
            source.columns.models,
            unlifted,
            said,
            source.models,
            source.arrivals,
            source.learned,
            source.record,
        )
        for name, before, now, model, arrivals, learned, record in zip(*tables, strict=True):
            if name not in models or name in accounts:
                continue
            plan = source.plans.get(name, NOTHING_KNOWN)
            longest = fold.NOW + len(telling.published_ms(float(model["lead_s"]))) - 1
            announced = sum(lift.announced for lift in plan.lifts)
            account = Account(
                float(now[0]),
                float(model["lead_s"]),
                record["bands"][arrivals["newest"]].tolist(),
                record["due"].tolist(),
                float(record["came"]),
                float(record["judged"]),
                record["covered"].tolist(),
                float(record["error"]),
                float(record["actual"]),
                announced,
                len(plan.lifts) - announced,
                float(now[longest] - before[longest]),
                np.median(plan.gains, axis=1).tolist(),
                methods.shares(learned),
            )
            accounts[name] = account
    return accounts


def _is_gone(source: Source, now_ms: int) -> bool:
    return source.next_by_ms + FORGET_MS < now_ms


def _check_times(sight: Sight, now_ms: int) -> None:
    if not 0 < sight.at_ms <= now_ms + AHEAD_MS:
        raise ContractError(f"at_ms {sight.at_ms} is not in 1 to {now_ms + AHEAD_MS}, now and 60 s")
    if not sight.at_ms <= sight.next_by_ms <= sight.at_ms + HOLD_MS_MAX:
        raise ContractError(
            f"next_by_ms {sight.next_by_ms} is not in {sight.at_ms} to an hour after it"
        )
