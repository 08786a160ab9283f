"""Sequences move on, with their KV, to replicas that are awake before theirs in the order.

The tail of a burst would keep a GPU awake for as long as its longest answer takes, with iterations
that are nearly empty.
"""

from libs.fleet.choice import fits_beside, keeps_pace
from libs.fleet.jit import kernel
from libs.fleet.queues import let_go
from libs.fleet.runs import after_run, give
from libs.fleet.sequences import generated, prefill_iterations
from libs.fleet.tables import (
    RESIDENT,
    SHORTEST_QUEUE,
    World,
    models,
    orders,
    replicas,
    requests,
    sequences,
)

# Of what a prompt may wait by the router's rule, the most that all prompts at a replica may still
# take for another sequence to join it.
EARLY = 0.5


@kernel
def _prompts_have_time(w: World, r: int, q: int) -> bool:
    """Whether the prompts at a replica are through early, though one more decodes beside them.

    They were given to it by a prediction that did not count this one.
    """
    replica = replicas(w)[r]
    if replica.pending == 0:
        return True
    request = requests(w)[q]
    model = models(w)[replica.model]
    context = replica.context + request.prompt_tokens + request.generated
    n_iterations = prefill_iterations(w, r, replica.pending, replica.decoding + 1, context) + 1
    through_ms = n_iterations * replica.iteration_max_ms
    return model.belief * through_ms <= EARLY * model.theta * model.ttft_ms


@kernel
def _roomier(w: World, r: int, q: int) -> int:
    """Return the first replica before this one in its model's order that is awake and takes q."""
    m = replicas(w)[r].model
    for k in range(models(w)[m].n_order):
        other = orders(w)[m, k]
        if other == r:
            return -1
        there = replicas(w)[other]
        if (
            there.state == RESIDENT
            and there.node == replicas(w)[r].node
            and 0 < there.held < there.concurrency
            and fits_beside(w, other, q)
            and keeps_pace(w, other)
            and _prompts_have_time(w, other, q)
        ):
            return other
    return -1


@kernel
def _has_time(w: World, r: int, q: int) -> bool:
    """Whether the tokens of a sequence keep their pace if the next one comes two iterations later.

    It waits for the iteration that runs where it goes to, and has its next token from the one
    after. An answer may end at any token, so the mean up to that one counts.
    """
    request = requests(w)[q]
    replica = replicas(w)[r]
    next_ms = w.now_ms - request.first_ms + 2 * replica.iteration_max_ms
    return next_ms <= request.generated * models(w)[replica.model].tpot_ms


@kernel
def consolidate(w: World, r: int) -> None:
    """Send the sequences of a replica that only decodes on to others, as far as they fit."""
    replica = replicas(w)[r]
    model = models(w)[replica.model]
    if replica.pending > 0 or replica.head >= 0 or model.router == SHORTEST_QUEUE:
        return
    n, kept = replica.decoding, 0
    for i in range(n):
        q = sequences(w)[r, i]
        request = requests(w)[q]
        request.generated = generated(w, r, q)
        to = _roomier(w, r, q) if _has_time(w, r, q) else -1
        if to < 0:
            sequences(w)[r, kept] = q
            kept += 1
            continue
        tokens = request.prompt_tokens + request.generated
        replica.context -= tokens
        replica.held_tokens -= tokens
        request.todo = 0
        give(w, to, q)
    moved = n - kept
    if moved == 0:
        return
    replica.decoding = replica.running_in = replica.running = kept
    replica.held -= moved
    model.in_flight -= moved
    model.queue += moved
    model.migrations += moved
    let_go(w, r, moved)
    after_run(w, r)
