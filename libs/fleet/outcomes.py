"""How a request ends, and what is counted of it."""

import numpy as np

from libs.common.series import LATENCY_RATIO_EDGES
from libs.fleet.jit import entry, kernel
from libs.fleet.tables import (
    LATE,
    LLM,
    OK,
    REJECTED,
    World,
    ends,
    latency_ratio,
    models,
    requests,
    ttft_ratio,
)

EDGES = np.array(LATENCY_RATIO_EDGES)


@entry
def bucket_of(ratio: float) -> int:
    """Return the bucket of a latency / objective; see `libs/common/series.py`."""
    low, high = 0, len(EDGES)
    while low < high:
        middle = (low + high) >> 1
        if EDGES[middle] < ratio:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def tpot_ms(first_ms: float, ended_ms: float, output_tokens: int) -> float:
    """Return the mean time per output token after the first; 0 for an answer of one token."""
    return (ended_ms - first_ms) / (output_tokens - 1) if output_tokens > 1 else 0.0


@kernel
def end_served(w: World, q: int) -> None:
    """End a request that was served now. An answer cut short for lack of memory is a miss."""
    head = w
    request = requests(w)[q]
    model = models(w)[request.model]
    request.ended_ms = head.now_ms
    if model.kind == LLM:
        ttft_ms = max(0.0, request.first_ms - request.due_ms)
        per_token_ms = tpot_ms(request.first_ms, head.now_ms, request.generated)
        whole = request.generated >= request.output_tokens
        within = ttft_ms <= model.ttft_ms and per_token_ms <= model.tpot_ms and whole
        ratio = max(ttft_ms / model.ttft_ms, per_token_ms / model.tpot_ms)
        ttft_ratio(w)[request.model, bucket_of(ttft_ms / model.ttft_ms)] += 1
    else:
        request.first_ms = head.now_ms
        request.generated = request.output_tokens
        latency_ms = max(0.0, head.now_ms - request.due_ms)
        within = latency_ms <= model.objective_ms
        ratio = latency_ms / model.objective_ms
    latency_ratio(w)[request.model, bucket_of(ratio)] += 1
    if within:
        request.status = OK
        model.ok += 1
    else:
        request.status = LATE
        model.late += 1
    model.output_tokens += request.generated
    ends(w)[head.n_ends] = q
    head.n_ends += 1


@kernel
def end_rejected(w: World, q: int) -> None:
    """End a request unserved. It waits nowhere any more."""
    head = w
    request = requests(w)[q]
    request.status = REJECTED
    request.ended_ms = head.now_ms
    models(w)[request.model].rejected += 1
    ends(w)[head.n_ends] = q
    head.n_ends += 1
