"""What nobody can beat: a proven lower bound of the GPU-time that serving is charged.

The proofs, and what they relax, stand in `docs/oracle.md`. A bound holds for the requests given to
it: to compare it with a policy's charge in a window, give it requests that arrived in the window
and met their objective in it. Nothing here simulates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from services.load.core.arrivals import Arrivals

Floats = npt.NDArray[np.float64]
# A span that is too long by a rounding of times does not refuse a group: the bound stays below.
ROUNDING_MS = 1e-6
BURST_MS = 10_000.0


class BatchType(NamedTuple):
    """A batch model on one type of device: s(b) = alpha + beta x b for b <= batch_max."""

    alpha_ms: float
    beta_ms: float
    batch_max: int


class LlmType(NamedTuple):
    """An LLM on one type of device: an iteration takes base + the sum of what it does."""

    base_ms: float
    prefill_token_ms: float
    decode_seq_ms: float
    kv_token_ms: float


class Work(NamedTuple):
    """What an LLM's requests cannot do without. Arrays are (requests,)."""

    prefill_tokens: npt.NDArray[np.int64]
    decodes: npt.NDArray[np.int64]
    kv_reads: npt.NDArray[np.int64]


class Bound(NamedTuple):
    """GPU-seconds that no schedule undercuts, and each request's part of them (they add up)."""

    gpu_s: float
    request_gpu_s: Floats


def batch_bound(
    at_ms: Floats, types: Sequence[BatchType], latency_ms: float, gpus: int = 1
) -> Bound:
    """Bound the charge of serving all of `at_ms` (ascending) within `latency_ms`.

    `types` are the model's laws on the device types that the fleet has; a replica takes `gpus`.
    O(requests x largest batch).

    Raises:
        ValueError: not even a single request meets the objective on any type.
    """
    service_ms = _service_ms(types)
    service_ms = service_ms[: np.searchsorted(service_ms, latency_ms, side="right")]
    if len(service_ms) < 2:
        raise ValueError(f"latency_ms {latency_ms:g} is below the bare service time on every type")
    ascending = np.ascontiguousarray(at_ms, np.float64)
    shares_ms = _group(ascending, service_ms, latency_ms + ROUNDING_MS - service_ms)
    return _bound(shares_ms * gpus / 1e3)


def llm_work(arrivals: Arrivals) -> Work:
    """Count what each request needs, each distinct block of a prefix with its first request.

    The last piece of a prompt gives the first token; each later one is a decode that reads the
    prompt and all tokens before it.
    """
    output = arrivals.output_tokens.astype(np.int64)
    decodes = np.maximum(output - 1, 0)
    kv_reads = decodes * arrivals.prompt_tokens + decodes * output // 2
    return Work(_new_tokens(arrivals), decodes, kv_reads)


def llm_bound(work: Work, types: Sequence[LlmType], tpot_ms: float, gpus: int = 1) -> Bound:
    """Bound the charge of doing `work` in iterations that last `tpot_ms` at most.

    Raises:
        ValueError: an empty iteration is longer than the objective on every type.
    """
    # GPU-ms for a token prefilled, a decode, a KV token read, its part of the base included.
    costs = [
        np.array(law[1:]) / (1 - law.base_ms / tpot_ms) for law in types if law.base_ms < tpot_ms
    ]
    if not costs:
        raise ValueError(f"tpot_ms {tpot_ms:g} is below the time of an empty iteration")
    return _bound(np.stack(work, axis=1) @ np.min(costs, axis=0) * gpus / 1e3)


def batch_useful_ms(law: BatchType, latency_ms: float) -> float:
    """Time of one request at the best batch that meets the objective, on one type of device.

    Raises:
        ValueError: not even a single request meets it.
    """
    batch = np.arange(1, law.batch_max + 1)
    service_ms = law.alpha_ms + law.beta_ms * batch
    fitting = service_ms <= latency_ms
    if not fitting.any():
        raise ValueError(f"latency_ms {latency_ms:g} is below the bare service time")
    return float((service_ms / batch)[fitting].min())


def llm_useful_ms(work: Work, law: LlmType, tpot_ms: float) -> Floats:
    """Time of each request's work in full iterations of `tpot_ms`, on one type of device."""
    return llm_bound(work, [law], tpot_ms).request_gpu_s * 1e3


def burstiness(at_ms: Floats, gpu_s: Floats, begin_ms: float, end_ms: float) -> float:
    """Largest 10 s mean of the work that arrives / its mean: smooth < 2, very bursty > 4."""
    bins = max(1, int((end_ms - begin_ms) // BURST_MS))
    sums, _ = np.histogram(at_ms, bins, (begin_ms, begin_ms + bins * BURST_MS), weights=gpu_s)
    return float(sums.max() / sums.mean()) if sums.any() else 0.0


def _bound(shares_s: Floats) -> Bound:
    return Bound(float(shares_s.sum()), shares_s)


def _service_ms(types: Sequence[BatchType]) -> Floats:
    """Return the least time of b requests over the types that take so many; (largest + 1,)."""
    batch = np.arange(max(law.batch_max for law in types) + 1)
    times = [
        np.where(batch <= law.batch_max, law.alpha_ms + law.beta_ms * batch, np.inf)
        for law in types
    ]
    least: Floats = np.min(times, axis=0)
    least[0] = 0.0
    return least


def _new_tokens(arrivals: Arrivals) -> npt.NDArray[np.int64]:
    """Count the prompt tokens that stand in no earlier prompt's blocks."""
    prompt = arrivals.prompt_tokens.astype(np.int64)
    if arrivals.prefixes is None:
        return prompt
    offsets, blocks, size = arrivals.prefixes
    counts = np.diff(offsets)
    request = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(blocks)) - np.repeat(offsets[:-1], counts)
    tokens = np.clip(prompt[request] - place * size, 0, size)
    _, first = np.unique(blocks, return_index=True)  # unique gives the first of equals
    seen = np.ones(len(blocks), np.bool_)
    seen[first] = False
    known = np.bincount(request, tokens * seen, len(prompt)).astype(np.int64)
    return prompt - known


@njit(cache=True)
def _group(at_ms: Floats, service_ms: Floats, longest_ms: Floats) -> Floats:
    """Return each request's share of the cheapest grouping, as relaxed in `docs/oracle.md`.

    `service_ms[b]` is the time of a group of b, `longest_ms[b]` the time that may lie between its
    first and last request.
    """
    n, largest = len(at_ms), len(service_ms) - 1
    alone_ms = np.full(n, service_ms[1])
    # A group may enclose a larger one if it has more time for waiting than that. Then its first and
    # last request lie too far apart for the larger group, with at least that many between them.
    for outer in range(2, largest):
        share_ms = service_ms[outer] / outer
        last, marked = 0, 0
        for first in range(n):
            while last + 1 < n and at_ms[last + 1] - at_ms[first] <= longest_ms[outer]:
                last += 1
            inner = min(largest, last - first + 1 - outer)
            if inner <= outer:
                continue
            if at_ms[last] - at_ms[first] > longest_ms[inner] - 2 * ROUNDING_MS:
                for i in range(max(first, marked), last + 1):
                    alone_ms[i] = min(alone_ms[i], share_ms)
                marked = last + 1
    least_ms = np.zeros(n + 1)
    size = np.zeros(n + 1, np.int64)  # of the group that ends here
    for end in range(1, n + 1):
        least_ms[end] = least_ms[end - 1] + alone_ms[end - 1]
        size[end] = 1
        for b in range(2, min(largest, end) + 1):
            if at_ms[end - 1] - at_ms[end - b] > longest_ms[b]:
                break  # and so for every larger one
            if least_ms[end - b] + service_ms[b] < least_ms[end]:
                least_ms[end] = least_ms[end - b] + service_ms[b]
                size[end] = b
    shares_ms = np.empty(n)
    end = n
    while end > 0:
        b = size[end]
        for i in range(end - b, end):
            shares_ms[i] = alone_ms[i] if b == 1 else service_ms[b] / b
        end -= b
    return shares_ms
