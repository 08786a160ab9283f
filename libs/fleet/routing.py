"""The router's law: which replica takes a request. Pure; the executor and the benchmark share it.

Replicas stand in a fixed order, and a request goes to the **first** one that is predicted to answer
within a part `theta` of the objective (first fit, as in bin packing: Johnson, "Near-optimal bin
packing algorithms", 1973). So load packs on the fewest replicas: the next one wakes for the very
request that the ones before it cannot take in time, without waiting for a tick, and the last ones
are left to training. Spreading evenly would keep every resident replica awake. `theta` below 1 pays
for what a prediction cannot know, such as requests that join a batch later; the scheduler corrects
it from the latencies measured.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Choice = int | Literal["wait", "reject"]


class Outlook(NamedTuple):
    """One replica at the moment of choosing. Times in ms."""

    concurrency: int  # requests it may hold at once; 0: leave it training
    held: int  # requests it holds, waiting or running
    waiting: int  # those of them that do not run yet
    oldest_waited_ms: float
    free_in_ms: float  # rest of what occupies its GPUs, others' waiting batches, switch to serving
    batch_size: int
    wait_ms: float
    alpha_ms: float
    beta_ms: float


def predicted_ms(seen: Outlook) -> float:
    """Return the time until a request given to this replica now would end.

    The rest of what runs on its GPUs, the full batches ahead, then its own batch with those that
    wait for it already: s(b) = alpha + beta x b. A batch that is not full starts when its oldest
    request has waited `wait_ms`; behind full batches that request's age is unknown, taken as 0.
    """
    batches_ahead, beside = divmod(seen.waiting, seen.batch_size)
    own_size = beside + 1
    wait_left_ms = 0.0
    if own_size < seen.batch_size:
        known = beside > 0 and batches_ahead == 0
        wait_left_ms = seen.wait_ms - (seen.oldest_waited_ms if known else 0.0)
    ahead_ms = batches_ahead * (seen.alpha_ms + seen.beta_ms * seen.batch_size)
    starts_in_ms = max(seen.free_in_ms + ahead_ms, wait_left_ms)
    return starts_in_ms + seen.alpha_ms + seen.beta_ms * own_size


def choose(
    outlooks: Iterable[Outlook | None],
    *,
    waited_ms: float,
    objective_ms: float,
    theta: float,
    reject_late: bool,
) -> Choice:
    """Return the place in `outlooks` of the replica that takes a request, or "wait", or "reject".

    The first with concurrency left whose prediction is at most theta x objective - waited. Where
    none is, best effort: the smallest prediction among those with concurrency left; "wait" when no
    replica has any. With `reject_late`, "reject" instead of a prediction past the objective.
    Later replicas are not looked at once one fits, so `outlooks` may be lazy. None: not resident.
    """
    budget_ms = theta * objective_ms - waited_ms
    best, best_ms = -1, float("inf")
    for place, seen in enumerate(outlooks):
        if seen is None or seen.held >= seen.concurrency:
            continue
        ends_in_ms = predicted_ms(seen)
        if ends_in_ms <= budget_ms:
            return place
        if ends_in_ms < best_ms:
            best, best_ms = place, ends_in_ms
    if best < 0:
        return "wait"
    if reject_late and waited_ms + best_ms > objective_ms:
        return "reject"
    return best
