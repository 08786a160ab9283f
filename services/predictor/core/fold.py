"""What a tick changes in a source, and what is foreseen of it: a kernel for each, over all rows.

They only lead from the columns to the ideas of the other files, each of which says what becomes of
one model, pair or node.
"""

import math

import numpy as np

from libs.common.series import LATENCY_BUCKETS
from services.predictor.core import arrivals as rates
from services.predictor.core import (
    latency,
    laws,
    load_times,
    node_scores,
    profiles,
    quality,
    residuals,
    tokens,
)
from services.predictor.core.arrivals import EARLY_MS, WINDOW_S
from services.predictor.core.columns import Floats, Ints, first_bad, grown, value
from services.predictor.core.jit import Row, Table, entry, kernel, record
from services.predictor.core.residuals import LEAD_S_MAX, QUANTILES

# The lead time as a horizon moves in steps, so that its record of errors stays one record.
LEAD_STEP_S = 5
GAP_MS = 1000  # a tick overdue by more leaves a gap: when its arrivals came, nobody knows

MODEL = record(
    {
        "queue": "f8",
        "in_flight": "f8",
        "lead_s": "f8",  # the lead time as a horizon, whole seconds
        "unjudged": "i8",  # 1: a known lift begins about now, and what is published has it in
        **tokens.FIELDS,
        "latency": ("f8", (latency.SECONDS, LATENCY_BUCKETS)),
    }
)

# A row of `foresee`: the rate, dispersion, queue, in flight, latency, token means and how good it
# was; then mean, quantiles and peaks at each horizon.
NOW, HORIZONS_SAID = 9, 4
MEANS = NOW + HORIZONS_SAID
BAND = HORIZONS_SAID * len(QUANTILES)
SAID = MEANS + 2 * BAND


@entry
def take_in(
    at_model: Table, at_pair: Table, at_node: Table, known: Ints, before: Floats, now: Floats,
    priors: Table, models: Table, arrivals: Table, record: Table, sums: Table, shares: Table,
    days: Table, start_ms: int, end_ms: int, held_until_ms: int, decision_ms: float,
) -> int:  # fmt: skip
    """Take in the values of a tick, `now`; the first of a source, from 0, says where they stand.

    Returns -1; or the first column whose value no counter or level can have, and changes nothing.
    """
    bad = first_bad(known, now)
    if bad >= 0:
        return bad
    if start_ms > 0:
        for n in range(len(shares)):
            node_scores.see(shares[n], at_node[n], before, now, start_ms, end_ms)
            profiles.see(days[n], node_scores.busiest(shares[n]), start_ms, end_ms)
        for p in range(len(sums)):
            _measure(sums[p], at_pair[p], before, now)
    _set_lead_times(models, sums, priors, at_pair, decision_ms)
    gap = end_ms > held_until_ms + GAP_MS
    for m in range(len(models)):
        model, at = models[m], at_model[m]
        model.queue, model.in_flight = value(now, at.queue), value(now, at.in_flight)
        if start_ms > 0:
            _count_ends(model, at, before, now, start_ms, end_ms)
            came = grown(before, now, at.arrivals)
            if gap and now[at.arrivals] < before[at.arrivals]:
                came = math.nan
            _arrive(model, arrivals[m], record[m], came, start_ms, end_ms, gap)
    for column in range(len(now)):
        if not math.isnan(now[column]):
            before[column] = now[column]
    return -1


@entry
def foresee(
    models: Table, arrivals: Table, record: Table, sums: Table, priors: Table, at_ms: int,
    decision_ms: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return what there is to say of models, (models, SAID), and of pairs, (pairs, 4).

    Of a pair: its lead time in ms, alpha and beta in ms, and how many batches they are made of. NaN
    says not known.
    """
    said = np.empty((len(models), SAID))
    for m in range(len(models)):
        model, row = models[m], said[m]
        now = rates.outlook(arrivals[m], at_ms % 1000 / 1000)
        row[0] = now.level_rps + now.excess_rps
        row[1] = arrivals[m].dispersion
        row[2], row[3] = model.queue, model.in_flight
        row[4] = latency.slo_ratio_p98(model.latency)
        row[5], row[6] = tokens.means(model)
        row[7], row[8] = quality.wape(record[m]), quality.coverage_p95(record[m])
        quantiles = row[MEANS : MEANS + BAND].reshape((HORIZONS_SAID, -1))
        peaks = row[MEANS + BAND :].reshape((HORIZONS_SAID, -1))
        residuals.foresee(record[m], now, model.lead_s, row[NOW:MEANS], quantiles, peaks)
    of_pairs = np.empty((len(sums), 4))
    for p in range(len(sums)):
        of_pairs[p, 0] = load_times.load_ms(sums[p], priors[p].load_ms) + decision_ms
        of_pairs[p, 1], of_pairs[p, 2] = laws.fit(sums[p], priors[p])
        of_pairs[p, 3] = sums[p].seen
    return said, of_pairs


@kernel
def _measure(sums: Row, at: Row, before: Floats, now: Floats) -> None:
    laws.add_batches(
        sums,
        grown(before, now, at.n),
        grown(before, now, at.b),
        grown(before, now, at.s),
        grown(before, now, at.bb),
        grown(before, now, at.bs),
    )
    load_times.add(sums, grown(before, now, at.loads), grown(before, now, at.load_ms))


@kernel
def _set_lead_times(
    models: Table, sums: Table, priors: Table, at_pair: Table, decision_ms: float
) -> None:
    """Set the lead time of each model: the longest of its pairs, in steps; NaN: none is known."""
    for m in range(len(models)):
        models[m].lead_s = math.nan
    for p in range(len(sums)):
        lead_ms = load_times.load_ms(sums[p], priors[p].load_ms) + decision_ms
        if math.isnan(lead_ms):
            continue
        steps = max(math.ceil(lead_ms / (1000 * LEAD_STEP_S)), 1)
        lead_s = float(min(steps * LEAD_STEP_S, LEAD_S_MAX))
        model = models[at_pair[p].model]
        if not model.lead_s >= lead_s:
            model.lead_s = lead_s


@kernel
def _count_ends(
    model: Row, at: Row, before: Floats, now: Floats, start_ms: int, end_ms: int
) -> None:
    ended = grown(before, now, at.ends_ok) + grown(before, now, at.ends_late)
    prompt, output = grown(before, now, at.prompt_tokens), grown(before, now, at.output_tokens)
    tokens.add(model, ended, prompt, output, (end_ms - start_ms) / 1000)
    latency.forget(model.latency, end_ms // 1000 - start_ms // 1000)
    for bucket in range(LATENCY_BUCKETS):
        more = grown(before, now, at.buckets[bucket])
        if not math.isnan(more):
            model.latency[latency.SECONDS - 1, bucket] += more


@kernel
def _arrive(
    model: Row, arrivals: Row, record: Row, came: float, start_ms: int, end_ms: int, gap: bool
) -> None:
    """Count arrivals into the seconds that the tick spans, evenly, closing those that are over.

    No forecast is judged by what came in a gap, nor any that was made in one. Where a counter was
    started again in it, what came is not known at all.
    """
    # After a long silence, what lies before the window is forgotten all the same.
    first = max(start_ms // 1000, end_ms // 1000 - WINDOW_S)
    for second in range(first, end_ms // 1000 + 1):
        begins_ms = second * 1000
        inside = _overlap(start_ms, end_ms, begins_ms, begins_ms + 1000)
        early = _overlap(start_ms, end_ms, begins_ms, begins_ms + EARLY_MS)
        rates.add(arrivals, came * inside, came * early)
        if second < end_ms // 1000:
            early_count = arrivals.early
            rates.close_second(arrivals)
            if not gap:
                # The fast estimate is still that of the tick before: a forecast sees no future.
                outlook = rates.outlook(arrivals, 0.0)
                residuals.close_second(record, arrivals, early_count, outlook, model.lead_s)
                if model.unjudged:
                    residuals.unmark(record, arrivals)
    if gap:
        residuals.skip_gap(record)
    rates.see(arrivals, came, end_ms - start_ms)


@kernel
def _overlap(start_ms: int, end_ms: int, low_ms: int, high_ms: int) -> float:
    """Return the part of [start, end) that lies in [low, high)."""
    return max(0, min(end_ms, high_ms) - max(start_ms, low_ms)) / (end_ms - start_ms)
