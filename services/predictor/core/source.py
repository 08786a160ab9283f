"""All that is remembered of one source of samples, and what one tick of it changes.

Each source has a state, and a clock, of its own: a source whose clock is wrong spoils its own
forecasts and nobody else's. The time is that of the samples; nothing here knows what time it is. A
source is changed in place; all of it that changes is arrays of records and two times.
"""

import dataclasses
from collections.abc import Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np

from libs.common import plimsoll_pb2 as pb
from services.predictor.core import (
    announcements,
    arrivals,
    fold,
    laws,
    node_scores,
    profiles,
    residuals,
)
from services.predictor.core.announcements import NOTHING_ANNOUNCED, Announced
from services.predictor.core.columns import Columns, Floats, carry_over, read_layout, refuse
from services.predictor.core.jit import Table
from services.predictor.core.registry import Registry, pairs_of, priors
from services.predictor.core.triggers import Plan, advance, begins, is_near


class Policy(NamedTuple):
    """What operators may set."""

    weights: node_scores.Weights = node_scores.Weights()
    bandwidth: float = 125e6  # of a node's network, bytes per second
    decision_ms: float = 2200.0  # from a forecast to the order: a placement period and a tick
    series_max: int = 1_000_000  # of a partition


class Sight(NamedTuple):
    """One tick, read and checked."""

    layout: pb.Layout
    source: str
    at_ms: int
    next_by_ms: int
    values: Floats  # (series,)


@dataclasses.dataclass(slots=True)
class Source:
    """What is remembered of one source; rows are the models, pairs and nodes of `columns`."""

    layout: pb.Layout
    registry: Registry
    columns: Columns
    priors: Table
    at_ms: int  # of the newest tick; 0: none yet
    next_by_ms: int
    values: Floats  # the last known value of each series
    models: Table
    arrivals: Table
    record: Table
    sums: Table  # of pairs
    shares: Table  # of nodes
    days: Table  # of nodes
    announced: Announced  # as it was when the plans took it in
    plans: dict[str, Plan]  # of the models of which something was announced


# The arrays that change, and of what their rows are.
CHANGING = {
    "models": "models",
    "arrivals": "models",
    "record": "models",
    "sums": "pairs",
    "shares": "nodes",
    "days": "nodes",
}


def begin(layout: pb.Layout, registry: Registry, policy: Policy) -> Source:
    """Return the state of a source never seen."""
    columns = read_layout(layout, pairs_of(registry))
    models, pairs = len(columns.models), len(columns.pairs)
    return Source(
        layout,
        registry,
        columns,
        priors(registry, columns.pairs),
        at_ms=0,
        next_by_ms=0,
        values=np.full(len(columns.keys), np.nan),
        models=np.zeros(models, fold.MODEL),
        arrivals=arrivals.nothing_seen(models),
        record=residuals.no_record(models),
        sums=laws.nothing_measured(pairs),
        shares=node_scores.nothing_seen(len(columns.nodes), policy.bandwidth),
        days=profiles.nothing_seen(len(columns.nodes)),
        announced=NOTHING_ANNOUNCED,
        plans={},
    )


def resume(old: Source, layout: pb.Layout, registry: Registry, policy: Policy) -> Source:
    """Return a source under a new layout or registry, with all that is known of what stays."""
    new = begin(layout, registry, policy)
    new.at_ms, new.next_by_ms = old.at_ms, old.next_by_ms
    new.values = carry_over(old.columns.keys, old.values, new.columns.keys)
    for field, rows in CHANGING.items():
        was, now = _same(getattr(old.columns, rows), getattr(new.columns, rows))
        getattr(new, field)[now] = getattr(old, field)[was]
    # What was announced of a model that it did not have is still to be taken in.
    new.plans = {name: plan for name, plan in old.plans.items() if name in new.columns.models}
    return new


def copied(source: Source) -> Source:
    """Return a source that no later tick of this one changes."""
    changing = {field: getattr(source, field).copy() for field in ("values", "plans", *CHANGING)}
    return dataclasses.replace(source, **changing)


def hear(source: Source, announced: Announced) -> None:
    """Take in what was announced of its models since it last heard."""
    source.plans = announcements.learn(
        source.plans, source.columns.models, source.announced, announced
    )
    source.announced = announced


def see(source: Source, sight: Sight, policy: Policy) -> None:
    """Take in one tick, newer than all before it and of the source's own layout.

    The first one only says where the counters stand.

    Raises:
        ContractError: names the first series with a value that it cannot have; nothing is changed.
    """
    assert sight.layout.layout_id == source.layout.layout_id
    assert sight.at_ms > source.at_ms
    columns = source.columns
    # Read-only, as they come from a message: kernels are compiled for that alone.
    now = sight.values.view()
    now.flags.writeable = False
    plans = _advanced(source, sight, policy) if source.plans and source.at_ms else source.plans
    bad = fold.take_in(
        columns.of_model,
        columns.of_pair,
        columns.of_node,
        columns.known,
        source.values,
        now,
        source.priors,
        source.models,
        source.arrivals,
        source.record,
        source.sums,
        source.shares,
        source.days,
        source.at_ms,
        sight.at_ms,
        source.next_by_ms,
        policy.decision_ms,
    )
    if bad >= 0:
        raise refuse(columns, sight.values, bad)
    source.at_ms, source.next_by_ms = sight.at_ms, sight.next_by_ms
    source.plans = plans


def foresee(source: Source, policy: Policy) -> tuple[Floats, Floats]:
    """Return what there is to say of its models and of its pairs; see `fold.foresee`."""
    return fold.foresee(
        source.models,
        source.arrivals,
        source.record,
        source.sums,
        source.priors,
        source.at_ms,
        policy.decision_ms,
    )


def _advanced(source: Source, sight: Sight, policy: Policy) -> dict[str, Plan]:
    """Return the plans after a tick that is still to be folded."""
    plans = dict(source.plans)
    begin = any(begins(lift, sight.at_ms) for plan in plans.values() for lift in plan.lifts)
    said = foresee(source, policy)[0] if begin else None
    row = {name: place for place, name in enumerate(source.columns.models)}
    for name, plan in plans.items():
        at = int(source.columns.of_model["arrivals"][row[name]])
        before, now = float(source.values[at]), float(sight.values[at])
        came = nan if at < 0 else now if now < before else now - before
        rate_rps = float(said[row[name], fold.NOW + 1]) if said is not None else nan
        lead_s = float(source.models["lead_s"][row[name]])
        near = is_near(plan, sight.at_ms, 1000 * (lead_s if lead_s > 10 else 10))  # NaN: 10
        source.models["unjudged"][row[name]] = near
        plans[name] = advance(plan, sight.at_ms, rate_rps, came, sight.at_ms - source.at_ms)
    return plans


def _same(was: Sequence[Any], now: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Return the rows of what is in both: in the old state, and in the new."""
    at = {name: row for row, name in enumerate(was)}
    both = [(at[name], row) for row, name in enumerate(now) if name in at]
    return [old for old, _ in both], [new for _, new in both]
