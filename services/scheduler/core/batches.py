"""Batches: how long they take, how large they may and need to be, and how long to wait for one.

A batch of b requests takes s(b) = alpha + beta x b on its GPUs. Everything is of one replica; a law
that is not known is NaN, and gives capacity 0 and batch 1.
"""

import math

import numpy as np

from services.scheduler.core.jit import entry, kernel

# Sizes that a need is rounded up to, so that a little more load is not a new command.
_SIZES = np.array(sorted({1, 4096, *(step << power for power in range(11) for step in (2, 3))}))
_LARGEST = 4096


@entry
def service_ms(alpha_ms: float, beta_ms: float, batch: float) -> float:
    """Return s(b)."""
    return alpha_ms + beta_ms * batch


@entry
def capacity_rps(alpha_ms: float, beta_ms: float, batch: int) -> float:
    """Return the rate of full batches back to back; 0 where the law is not known."""
    rate_rps = 1000.0 * batch / service_ms(alpha_ms, beta_ms, batch)
    return 0.0 if math.isnan(rate_rps) else rate_rps


@entry
def largest_within(alpha_ms: float, beta_ms: float, budget_ms: float) -> int:
    """Return the largest batch, at least 1, of which two in a row fit into `budget_ms`.

    A request that just missed a batch waits for that one to end, and then for its own.
    """
    largest = math.floor(_clipped((budget_ms / 2 - alpha_ms) / beta_ms + 1e-9))
    return int(largest)


@entry
def full_batch(alpha_ms: float, beta_ms: float, budget_ms: float, answer_ms: float) -> int:
    """Return the batch at which a replica is full: by `budget_ms`, or of an LLM by `answer_ms`.

    Into an LLM's engine a request goes at the next iteration. It waits for no batch to end, so it
    is s(b) itself, the time of b answers side by side, that may last `answer_ms`.
    """
    # Twice, since of a batch's budget two must fit.
    return largest_within(alpha_ms, beta_ms, budget_ms if math.isnan(answer_ms) else 2 * answer_ms)


@entry
def needed_for(alpha_ms: float, beta_ms: float, rate_rps: float, util: float) -> int:
    """Return the smallest batch by which one replica carries `rate_rps` at utilisation `util`.

    From util x 1000 b / (alpha + beta b) >= rate, rounded up to a usual size; the largest one
    where no batch suffices.
    """
    spare = 1000.0 * util - rate_rps * beta_ms
    needed = math.inf if spare <= 0 else rate_rps * alpha_ms / spare
    return int(_SIZES[np.searchsorted(_SIZES, _clipped(needed) - 1e-9)])


@entry
def settled(current: int, wanted: int, limit: int) -> int:
    """Return the batch to use: more at once, less only by half or where the limit asks for it."""
    wanted = min(wanted, limit)
    keep = wanted < current <= limit and 2 * wanted > current
    return current if keep else wanted


@entry
def wait_ms(
    alpha_ms: float,
    beta_ms: float,
    batch: int,
    rate_rps: float,
    budget_ms: float,
    wait_max_ms: float,
) -> float:
    """Return how long a first request waits for company, in whole ms.

    What two batches leave of `budget_ms`, at most `wait_max_ms`, where waiting pays: each ms keeps
    the GPU for a ms, and saves alpha for every request that comes in it at `rate_rps`, the load
    that this batch is meant for. Below that, 0.
    """
    slack_ms = budget_ms - 2 * service_ms(alpha_ms, beta_ms, batch)
    pays = rate_rps * alpha_ms >= 1000.0 and slack_ms > 0
    return float(math.floor(min(slack_ms, wait_max_ms))) if pays else 0.0


@kernel
def _clipped(batch: float) -> float:
    return 1.0 if math.isnan(batch) else min(max(batch, 1.0), float(_LARGEST))
