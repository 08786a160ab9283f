"""Late binding: who would wake a GPU from training waits at the router for as long as it may.

A GPU is charged to serving from the moment that it has a request, though a step that runs there is
not interrupted. A request that is held back instead leaves the GPU to training, finds company for
its batch, and goes where room has come by then.
"""

from libs.fleet.jit import kernel
from libs.fleet.sequences import prefill_iterations
from libs.fleet.tables import (
    BATCH,
    NEVER_MS,
    STEP,
    World,
    gpus,
    models,
    parts,
    replica_gpus,
    replicas,
    requests,
    step_ms,
)


@kernel
def left_ms(w: World, q: int, share: float) -> float:
    """Return what is left to a request of a share of its objective, or of its first token's."""
    request = requests(w)[q]
    model = models(w)[request.model]
    objective_ms = model.objective_ms if model.kind == BATCH else model.ttft_ms
    return share * objective_ms - (w.now_ms - request.due_ms)


@kernel
def trains(w: World, r: int) -> bool:
    """Whether each GPU of a replica is in a training step, with no request waiting for its end."""
    for i in range(replicas(w)[r].n_gpus):
        gpu = gpus(w)[replica_gpus(w)[r, i]]
        if gpu.run != STEP or gpu.requests > 0:
            return False
    return True


@kernel
def _all_ms(w: World, r: int) -> float:
    """Return how long a replica would take for all in its model's queue; never if they fill it.

    One batch; or the prompts of an LLM, and half an iteration for the rounding.
    """
    replica = replicas(w)[r]
    n, tokens = 0, 0
    q = models(w)[replica.model].head
    while q >= 0:
        n += 1
        if n >= replica.batch_size:
            return NEVER_MS
        tokens += requests(w)[q].prompt_tokens + requests(w)[q].generated
        q = requests(w)[q].next
    if replica.kind == BATCH:
        return replica.alpha_ms + replica.beta_ms * n
    return (prefill_iterations(w, r, tokens, 0, 0) + 0.5) * replica.iteration_max_ms


@kernel
def in_time(w: World, r: int, free_in_ms: float) -> bool:
    """Whether all in a model's queue would be in time at a replica that is free in so long."""
    model = models(w)[replicas(w)[r].model]
    budget_ms = left_ms(w, model.head, model.theta)
    return model.belief * (free_in_ms + _all_ms(w, r)) <= budget_ms


@kernel
def outlast_a_step(w: World, g: int, r: int) -> bool:
    """Whether all in a model's queue would be in time at a replica if an idle GPU of it trains on.

    Not where nothing is known of the next step.
    """
    gpu = gpus(w)[g]
    if gpu.part < 0:
        return False
    return in_time(w, r, 2 * w.switch_ms + step_ms(w)[parts(w)[gpu.part].job, gpu.device_type])
