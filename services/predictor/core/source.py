"""All that is remembered of one source of samples, and what one tick of it changes.

Each source has a state, and a clock, of its own: a source whose clock is wrong spoils its own
forecasts and nobody else's. The time is that of the samples; nothing here knows what time it is.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from services.predictor.core import arrivals, latency, laws, node_scores, residuals, tokens
from services.predictor.core.arrivals import EARLY_MS, WINDOW_S, Arrivals
from services.predictor.core.columns import (
    Columns,
    Floats,
    carry_over,
    increases,
    pick,
    read_layout,
)
from services.predictor.core.laws import Batches, Loads
from services.predictor.core.node_scores import Shares
from services.predictor.core.registry import Priors, Registry, pairs_of, priors
from services.predictor.core.residuals import LEAD_S_MAX, Residuals
from services.predictor.core.tokens import Tokens

BATCH_SUMS = (
    series.BATCHES,
    series.BATCH_REQUESTS,
    series.BATCH_SERVICE_MS,
    series.BATCH_REQUESTS_SQUARED,
    series.BATCH_CROSS,
)
# The lead time as a horizon moves in steps, so that its record of errors stays one record.
LEAD_STEP_S = 5
GAP_MS = 1000  # a tick overdue by more leaves a gap: when its arrivals came, nobody knows

T = TypeVar("T", bound=tuple[Any, ...])


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


class Source(NamedTuple):
    """What is remembered of one source; rows are the models, pairs and nodes of `columns`."""

    layout: pb.Layout
    registry: Registry
    columns: Columns
    priors: Priors
    at_ms: int  # of the newest tick; 0: none yet
    next_by_ms: int
    values: Floats  # the last known value of each series
    queue: Floats
    in_flight: Floats
    arrivals: Arrivals
    record: Residuals
    ends: Floats
    tokens: Tokens
    batches: Batches
    loads: Loads
    shares: Shares


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
        queue=np.full(models, np.nan),
        in_flight=np.full(models, np.nan),
        arrivals=arrivals.nothing_seen(models),
        record=residuals.no_record(models),
        ends=latency.nothing_seen(models),
        tokens=tokens.nothing_seen(models),
        batches=laws.no_batches(pairs),
        loads=laws.no_loads(pairs),
        shares=node_scores.nothing_seen(len(columns.nodes), policy.bandwidth),
    )


def resume(old: Source, layout: pb.Layout, registry: Registry, policy: Policy) -> Source:
    """Return a source under a new layout or registry, with all that is known of what stays."""
    new = begin(layout, registry, policy)
    was, now = old.columns, new.columns
    of_models = _same(was.models, now.models)
    of_pairs = _same(was.pairs, now.pairs)
    return new._replace(
        at_ms=old.at_ms,
        next_by_ms=old.next_by_ms,
        values=carry_over(was.keys, old.values, now.keys),
        queue=_moved(old.queue, new.queue, of_models),
        in_flight=_moved(old.in_flight, new.in_flight, of_models),
        arrivals=_all_moved(old.arrivals, new.arrivals, of_models),
        record=_all_moved(old.record, new.record, of_models),
        ends=_moved(old.ends, new.ends, of_models),
        tokens=_all_moved(old.tokens, new.tokens, of_models),
        batches=_all_moved(old.batches, new.batches, of_pairs),
        loads=_all_moved(old.loads, new.loads, of_pairs),
        shares=_all_moved(old.shares, new.shares, _same(was.nodes, now.nodes)),
    )


def see(source: Source, sight: Sight, policy: Policy) -> Source:
    """Take in one tick, newer than all before it and of the source's own layout.

    The first one only says where the counters stand.
    """
    assert sight.layout.layout_id == source.layout.layout_id
    assert sight.at_ms > source.at_ms
    columns, before, now = source.columns, source.values, sight.values
    seen = source._replace(
        at_ms=sight.at_ms,
        next_by_ms=sight.next_by_ms,
        values=np.where(np.isnan(now), before, now),
        queue=pick(now, columns.of_model[series.QUEUE]),
        in_flight=pick(now, columns.of_model[series.IN_FLIGHT]),
    )
    if source.at_ms == 0:
        return seen
    grown = increases(before, now)
    elapsed_s = (sight.at_ms - source.at_ms) / 1000
    of_model = {metric: pick(grown, at) for metric, at in columns.of_model.items()}
    of_pair = {metric: pick(grown, at) for metric, at in columns.of_pair.items()}
    ended = of_model[series.ENDS_OK] + of_model[series.ENDS_LATE]
    token_sums = (ended, of_model[series.PROMPT_TOKENS], of_model[series.OUTPUT_TOKENS])
    loaded = np.stack((of_pair[series.LOADS], of_pair[series.LOAD_MS]))
    seen = seen._replace(
        ends=latency.add(
            source.ends,
            pick(grown, columns.buckets),
            sight.at_ms // 1000 - source.at_ms // 1000,
        ),
        tokens=tokens.add(source.tokens, np.stack(token_sums), elapsed_s),
        batches=laws.add_batches(source.batches, np.stack([of_pair[m] for m in BATCH_SUMS])),
        loads=laws.add_loads(source.loads, loaded),
        shares=node_scores.see(source.shares, columns, before, now, elapsed_s),
    )
    return _arrive(seen, source, of_model[series.ARRIVALS], policy)


def lead_time_ms(source: Source, policy: Policy) -> Floats:
    """Return the time from a forecast to a replica that serves, (pairs,); NaN where not known."""
    return laws.load_ms(source.loads, source.priors.load_ms) + policy.decision_ms


def lead_s(source: Source, policy: Policy) -> Floats:
    """Return the lead time as a horizon, whole seconds, (models,): the longest of its pairs."""
    longest = np.full(len(source.columns.models), np.nan)
    np.fmax.at(longest, source.columns.model_of_pair, lead_time_ms(source, policy))
    steps = np.ceil(longest / (1000 * LEAD_STEP_S)) * LEAD_STEP_S
    return steps.clip(LEAD_STEP_S, LEAD_S_MAX)


def _arrive(seen: Source, before: Source, grown: Floats, policy: Policy) -> Source:
    """Count arrivals into the seconds that the tick spans, evenly, closing those that are over.

    No forecast is judged by what came in a gap, nor any that was made in one. Where a counter was
    started again in it, what came is not known at all.
    """
    start_ms, end_ms = before.at_ms, seen.at_ms
    state, record = before.arrivals, before.record
    horizon_s = lead_s(seen, policy)
    gap = end_ms > before.next_by_ms + GAP_MS
    if gap:
        change = pick(seen.values - before.values, seen.columns.of_model[series.ARRIVALS])
        grown = np.where(change < 0, np.nan, grown)
    # After a long silence, what lies before the window is forgotten all the same.
    first = max(start_ms // 1000, end_ms // 1000 - WINDOW_S)
    for second in range(first, end_ms // 1000 + 1):
        begins_ms = second * 1000
        inside = _overlap(start_ms, end_ms, begins_ms, begins_ms + 1000)
        early = _overlap(start_ms, end_ms, begins_ms, begins_ms + EARLY_MS)
        state = arrivals.add(state, grown * inside, grown * early)
        if second < end_ms // 1000:
            early_count = state.early
            state = arrivals.close_second(state)
            if not gap:
                # The fast estimate is still that of the tick before: a forecast sees no future.
                outlook = arrivals.outlook(state, 0.0)
                record = residuals.close_second(record, state, early_count, outlook, horizon_s)
    if gap:
        record = residuals.skip_gap(record)
    return seen._replace(arrivals=arrivals.see(state, grown, end_ms - start_ms), record=record)


def _overlap(start_ms: int, end_ms: int, low_ms: int, high_ms: int) -> float:
    """Return the part of [start, end) that lies in [low, high)."""
    return max(0, min(end_ms, high_ms) - max(start_ms, low_ms)) / (end_ms - start_ms)


Rows = tuple[list[int], list[int]]  # of what is in both: in the old state, in the new


def _same(was: Sequence[Any], now: Sequence[Any]) -> Rows:
    at = {name: row for row, name in enumerate(was)}
    both = [(at[name], row) for row, name in enumerate(now) if name in at]
    return [old for old, _ in both], [new for _, new in both]


def _moved(old: Floats, new: Floats, rows: Rows) -> Floats:
    out = new.copy()
    out[rows[1]] = old[rows[0]]
    return out


def _all_moved(old: T, new: T, rows: Rows) -> T:
    return type(old)(*(_moved(a, b, rows) for a, b in zip(old, new, strict=True)))
