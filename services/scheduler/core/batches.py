"""Batches: how long they take, how large they may and need to be, and how long to wait for one.

A batch of b requests takes s(b) = alpha + beta x b on its GPUs. Everything is elementwise over
arrays that broadcast; a law that is not known is NaN, and gives capacity 0 and batch 1.
"""

import numpy as np

from services.scheduler.core.contracts import Floats, Ints

# Sizes that a need is rounded up to, so that a little more load is not a new command.
_SIZES = np.array(sorted({1, 4096, *(step << power for power in range(11) for step in (2, 3))}))


def service_ms(alpha_ms: Floats, beta_ms: Floats, batch: Ints) -> Floats:
    """Return s(b)."""
    return alpha_ms + beta_ms * batch


def capacity_rps(alpha_ms: Floats, beta_ms: Floats, batch: Ints) -> Floats:
    """Return the rate of full batches back to back; 0 where the law is not known."""
    return np.nan_to_num(1000.0 * batch / service_ms(alpha_ms, beta_ms, batch))


def largest_within(alpha_ms: Floats, beta_ms: Floats, budget_ms: Floats) -> Ints:
    """Return the largest batch, at least 1, of which two in a row fit into `budget_ms`.

    A request that just missed a batch waits for that one to end, and then for its own.
    """
    largest = np.floor((budget_ms / 2 - alpha_ms) / beta_ms + 1e-9)
    batch: Ints = np.clip(np.nan_to_num(largest, nan=1.0), 1, _SIZES[-1]).astype(np.int64)
    return batch


def full_batch(alpha_ms: Floats, beta_ms: Floats, budget_ms: Floats, answer_ms: Floats) -> Ints:
    """Return the batch at which a replica is full: by `budget_ms`, or of an LLM by `answer_ms`.

    Into an LLM's engine a request goes at the next iteration. It waits for no batch to end, so it
    is s(b) itself, the time of b answers side by side, that may last `answer_ms`.
    """
    # Twice, since of a batch's budget two must fit.
    return largest_within(
        alpha_ms, beta_ms, np.where(np.isnan(answer_ms), budget_ms, 2 * answer_ms)
    )


def needed_for(alpha_ms: Floats, beta_ms: Floats, rate_rps: Floats, util: float) -> Ints:
    """Return the smallest batch by which one replica carries `rate_rps` at utilisation `util`.

    From util x 1000 b / (alpha + beta b) >= rate, rounded up to a usual size; the largest one
    where no batch suffices.
    """
    spare = 1000.0 * util - rate_rps * beta_ms
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(spare <= 0, np.inf, rate_rps * alpha_ms / spare)
    needed = np.clip(np.nan_to_num(needed, nan=1.0), 1, _SIZES[-1])
    batch: Ints = _SIZES[np.searchsorted(_SIZES, needed - 1e-9)].astype(np.int64)
    return batch


def settled(current: Ints, wanted: Ints, limit: Ints) -> Ints:
    """Return the batch to use: more at once, less only by half or where the limit asks for it."""
    wanted = np.minimum(wanted, limit)
    keep = (current <= limit) & (wanted < current) & (2 * wanted > current)
    return np.where(keep, current, wanted)


def wait_ms(
    alpha_ms: Floats,
    beta_ms: Floats,
    batch: Ints,
    rate_rps: Floats,
    budget_ms: Floats,
    wait_max_ms: Floats,
) -> Floats:
    """Return how long a first request waits for company, in whole ms.

    What two batches leave of `budget_ms`, at most `wait_max_ms`, where waiting pays: each ms keeps
    the GPU for a ms, and saves alpha for every request that comes in it at `rate_rps`, the load
    that this batch is meant for. Below that, 0.
    """
    slack = np.nan_to_num(budget_ms - 2 * service_ms(alpha_ms, beta_ms, batch))
    longest = np.floor(np.clip(slack, 0, wait_max_ms))
    return np.where(rate_rps * alpha_ms >= 1000.0, longest, 0.0)
