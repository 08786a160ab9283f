"""The router's law: which replica takes a request.

Replicas stand in a fixed order, and a request goes to the **first** one that is predicted to answer
within a part `theta` of the objective (first fit, as in bin packing: Johnson, "Near-optimal bin
packing algorithms", 1973). So load packs on the fewest replicas: the next one wakes for the very
request that the ones before it cannot take in time, without waiting for a tick, and the last ones
are left to training. Spreading evenly would keep every resident replica awake. `theta` below 1 pays
for what a prediction cannot know, such as requests that join a batch later; the scheduler corrects
it from the latencies measured. Beside it stands the plain law of most balancers: join the shortest
queue. Neither sees the length of an answer before its last token. A model's `belief` is what the
law says of its times / what they are: 1, but where a trial lets the law be wrong.
"""

from libs.fleet.holding import in_time, left_ms, trains
from libs.fleet.jit import entry, kernel
from libs.fleet.sequences import prefill_iterations, prefill_left
from libs.fleet.tables import (
    BATCH,
    IDLE,
    LLM,
    NEVER_MS,
    RESIDENT,
    SHORTEST_QUEUE,
    STEP,
    World,
    gpu_replicas,
    gpus,
    models,
    orders,
    replica_gpus,
    replicas,
    requests,
)

WAIT, REJECT, HOLD = -1, -2, -3
# Part of the longest iteration that decodes alone may fill, counting a new sequence.
DECODES_SHARE = 0.95


@entry
def predicted_batch_ms(
    size: int,
    waiting: int,
    oldest_waited_ms: float,
    free_in_ms: float,
    wait_ms: float,
    alpha_ms: float,
    beta_ms: float,
) -> float:
    """Return the time until a request given to a replica now would end.

    The rest of what runs on its GPUs, the full batches ahead, then its own batch with those that
    wait for it already: s(b) = alpha + beta x b. A batch that is not full starts when its oldest
    request has waited `wait_ms`; behind full batches that request's age is unknown, taken as 0.
    """
    ahead = waiting // size if waiting >= size else 0  # a division is slow
    beside = waiting - ahead * size
    own = beside + 1
    wait_left_ms = 0.0
    if own < size:
        known = beside > 0 and ahead == 0
        wait_left_ms = wait_ms - (oldest_waited_ms if known else 0.0)
    starts_in_ms = max(free_in_ms + ahead * (alpha_ms + beta_ms * size), wait_left_ms)
    return starts_in_ms + alpha_ms + beta_ms * own


@kernel
def waiting_ms(w: World, r: int) -> float:
    """Return the compute that what waits at a replica takes next.

    Of requests in batches, full ones but the last; of an LLM its next iteration.
    """
    replica = replicas(w)[r]
    if replica.kind == LLM:
        return replica.iteration_max_ms if replica.held > 0 else 0.0
    waiting = replica.held - replica.running
    if waiting == 0:
        return 0.0
    full = waiting // replica.batch_size
    rest = waiting - full * replica.batch_size
    total_ms = full * (replica.alpha_ms + replica.beta_ms * replica.batch_size)
    return total_ms + (replica.alpha_ms + replica.beta_ms * rest if rest > 0 else 0.0)


@kernel
def free_in_ms(w: World, r: int) -> float:
    """Rest of what runs on a replica's GPUs, the switch from training, what waits at others."""
    replica = replicas(w)[r]
    latest_ms = 0.0
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        gpu = gpus(w)[g]
        rest_ms = gpu.ends_ms - w.now_ms if gpu.run != IDLE else 0.0
        if gpu.last == STEP:
            rest_ms += w.switch_ms
        if gpu.n_replicas > 1:
            for k in range(gpu.n_replicas):
                other = gpu_replicas(w)[g, k]
                if other != r:
                    rest_ms += waiting_ms(w, other)
        latest_ms = max(latest_ms, rest_ms)
    return latest_ms


@kernel
def predicted_ms(w: World, r: int) -> float:
    """Return the time until a request given to a replica of a batch model now would end."""
    replica = replicas(w)[r]
    waiting = replica.held - replica.running
    waited_ms = w.now_ms - requests(w)[replica.head].queued_ms if waiting > 0 else 0.0
    return predicted_batch_ms(
        replica.batch_size,
        waiting,
        waited_ms,
        free_in_ms(w, r),
        replica.wait_ms,
        replica.alpha_ms,
        replica.beta_ms,
    )


@kernel
def predicted_ttft_ms(w: World, r: int, own_tokens: int) -> float:
    """Return the time until the first token of a prompt of which a replica would compute so much.

    The rest of the running iteration, then the prompts ahead and its own in chunks beside the
    decodes, at the longest iteration each, and half an iteration for the rounding.
    """
    replica = replicas(w)[r]
    tokens = replica.pending + own_tokens
    n_iterations = prefill_iterations(w, r, tokens, replica.decoding, replica.context) + 0.5
    return free_in_ms(w, r) + n_iterations * replica.iteration_max_ms


@kernel
def fits_beside(w: World, r: int, q: int) -> bool:
    """Whether an LLM replica's decodes stay within the iteration and its KV pool, with one more.

    Of the answers' lengths only the mean of those complete is used, or before any the length asked
    for at most; sequences in hand are on average half through.
    """
    replica = replicas(w)[r]
    request = requests(w)[q]
    model = models(w)[replica.model]
    n = replica.held + 1
    tokens = replica.held_tokens + request.prompt_tokens + request.generated
    true_ms = replica.base_ms + replica.decode_ms * n + replica.kv_ms * tokens
    decodes_ms = model.belief * true_ms
    ended = model.ok + model.late
    answer = model.output_tokens / ended if ended > 0 else float(request.max_tokens)
    grown = tokens + 0.5 * n * answer
    return (
        n <= replica.batch_size
        and decodes_ms <= DECODES_SHARE * replica.iteration_max_ms
        and grown <= replica.kv_tokens
    )


@kernel
def keeps_pace(w: World, r: int) -> bool:
    """Whether no LLM's tokens would wait for another model's work on a GPU of this replica.

    Engines and batches take turns on a GPU. A batch between two iterations is a pause between two
    tokens, which no prediction of a first token shows.
    """
    replica = replicas(w)[r]
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        gpu = gpus(w)[g]
        for k in range(gpu.n_replicas):
            there = gpu_replicas(w)[g, k]
            other = replicas(w)[there]
            if there != r and other.held > 0 and LLM in (replica.kind, other.kind):
                return False
    return True


@kernel
def choose(w: World, q: int) -> int:
    """Return the replica that takes a request, or HOLD, WAIT or REJECT. Nothing changes.

    The first in order with concurrency left that fits, keeps pace, and whose prediction is at most
    theta x objective - waited. HOLD for one that trains, while all in the queue would be in time
    there after its step. Where none is, best effort: the smallest prediction among those with
    concurrency left, WAIT when no replica has any. For a model that rejects what comes too late,
    REJECT instead of a prediction past the objective.
    """
    request = requests(w)[q]
    m = request.model
    model = models(w)[m]
    order = orders(w)
    budget_ms = left_ms(w, q, model.theta)
    best, best_ms = WAIT, NEVER_MS
    for k in range(model.n_order):
        r = order[m, k]
        replica = replicas(w)[r]
        if replica.state != RESIDENT or replica.held >= replica.concurrency:
            continue
        if model.router == SHORTEST_QUEUE:
            if replica.held < best_ms:
                best, best_ms = r, float(replica.held)
            continue
        if replica.kind == BATCH:
            ends_in_ms = model.belief * predicted_ms(w, r)
            fits = True
        else:
            ends_in_ms = model.belief * predicted_ttft_ms(w, r, prefill_left(w, r, q))
            fits = fits_beside(w, r, q)
        if fits and ends_in_ms <= budget_ms and keeps_pace(w, r):
            return HOLD if trains(w, r) and in_time(w, r, free_in_ms(w, r)) else r
        if ends_in_ms < best_ms:
            best, best_ms = r, ends_in_ms
    if best >= 0 and model.rejects:
        if model.router == SHORTEST_QUEUE:
            if model.kind == BATCH:
                best_ms = model.belief * predicted_ms(w, best)
            else:
                best_ms = model.belief * predicted_ttft_ms(w, best, prefill_left(w, best, q))
        if best_ms > left_ms(w, q, 1.0):
            return REJECT
    return best
