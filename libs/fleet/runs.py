"""What a replica runs on its GPUs: one batch, or one iteration over its sequences, at a time."""

from libs.fleet.agenda import lane_soon, look_soon, plan
from libs.fleet.charge import settle
from libs.fleet.jit import kernel
from libs.fleet.outcomes import end_served
from libs.fleet.queues import held_append
from libs.fleet.residents import claim, go
from libs.fleet.tables import (
    DRAINING,
    IDLE,
    LLM,
    RUN_ENDS,
    SERVING,
    STEP,
    World,
    gpus,
    laws,
    models,
    replica_gpus,
    replicas,
    requests,
)


@kernel
def service_ms(w: World, r: int, size: int) -> float:
    """Return s(b) = alpha + beta x b."""
    return replicas(w)[r].alpha_ms + replicas(w)[r].beta_ms * size


@kernel
def give(w: World, r: int, q: int) -> None:
    """Give a request to a resident replica. What comes at one moment travels together."""
    replica = replicas(w)[r]
    request = requests(w)[q]
    now_ms = w.now_ms
    request.queued_ms = now_ms
    request.replica = replica.number
    held_append(w, r, q)
    if replica.held == 0:
        replica.since_ms = now_ms
    replica.held += 1
    if replica.kind == LLM:
        replica.held_tokens += request.prompt_tokens + request.generated
        replica.pending += request.todo
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        gpu = gpus(w)[g]
        if gpu.requests == 0:
            settle(w, g)
        gpu.requests += 1
        if gpu.run == IDLE:
            look_soon(w, g)


@kernel
def occupy(w: World, r: int, duration_ms: float) -> None:
    """Have a replica run on its GPUs, which are idle, after the switch where they trained."""
    replica = replicas(w)[r]
    head = w
    switches = False
    for i in range(replica.n_gpus):
        switches = switches or gpus(w)[replica_gpus(w)[r, i]].last == STEP
    switch_ms = head.switch_ms if switches else 0.0
    ends_ms = head.now_ms + switch_ms + duration_ms
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpu = gpus(w)[g]
        gpu.run = SERVING
        gpu.last = SERVING
        gpu.work_from_ms = head.now_ms + switch_ms
        gpu.ends_ms = ends_ms
        gpu.switching_ms += switch_ms
    plan(w, ends_ms, RUN_ENDS, r, replica.ticket)


@kernel
def vacate(w: World, r: int, n_ended: int, worked_ms: float) -> None:
    """Free a replica's GPUs at the end of a run that ended some of their requests."""
    replica = replicas(w)[r]
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpu = gpus(w)[g]
        gpu.run = IDLE
        gpu.batch = 0
        gpu.requests -= n_ended
        gpu.busy_serving_ms += worked_ms
        look_soon(w, g)


@kernel
def after_run(w: World, r: int) -> None:
    """See what the end of a run allows: the router may send more, or the replica goes."""
    replica = replicas(w)[r]
    if models(w)[replica.model].head >= 0:
        lane_soon(w, replica.model)
    if replica.state == DRAINING and replica.held == 0:
        go(w, r)


@kernel
def start_batch(w: World, r: int) -> None:
    """Start a batch of those that waited longest, on idle GPUs, if there is memory for it."""
    replica = replicas(w)[r]
    size = min(replica.held, replica.batch_size)
    batch_bytes = size * replica.request_bytes
    if replica.n_gpus > 1:  # a division is slow
        batch_bytes = -(-batch_bytes // replica.n_gpus)
    if not claim(w, r, batch_bytes):
        return
    q = replica.head
    replica.run_head = q
    for _ in range(size - 1):
        q = requests(w)[q].next
    replica.head = requests(w)[q].next
    replica.running = size
    model = models(w)[replica.model]
    model.queue -= size
    model.in_flight += size
    occupy(w, r, service_ms(w, r, size))
    for i in range(replica.n_gpus):
        gpus(w)[replica_gpus(w)[r, i]].batch = batch_bytes


@kernel
def end_batch(w: World, r: int) -> None:
    """End the running batch of a replica and all requests in it."""
    replica = replicas(w)[r]
    size = replica.running
    worked_ms = service_ms(w, r, size)
    vacate(w, r, size, worked_ms)
    q = replica.run_head
    for _ in range(size):
        request = requests(w)[q]
        request.batch_size = size
        following = request.next
        end_served(w, q)
        q = following
    replica.held -= size
    replica.running = 0
    models(w)[replica.model].in_flight -= size
    law = laws(w)[replica.model, gpus(w)[replica_gpus(w)[r, 0]].device_type]
    law.batches += 1
    law.requests += size
    law.service_ms += worked_ms
    law.requests_squared += size * size
    law.cross += size * worked_ms
    law.done_requests += size
    after_run(w, r)
