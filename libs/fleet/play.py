"""Moves a fleet on: takes what falls due, in order, up to the next moment that the caller wants.

At each moment first what ends, then what arrives, then the router, then idle GPUs; so what an end
frees is used at that very moment, and what arrives at one moment travels together.
"""

from libs.fleet.agenda import drop_first, lane_soon, look_at, look_soon, plan
from libs.fleet.choice import HOLD, REJECT, WAIT, choose
from libs.fleet.faults import take_fault
from libs.fleet.holding import outlast_a_step
from libs.fleet.jit import entry, kernel
from libs.fleet.migration import consolidate
from libs.fleet.outcomes import end_rejected
from libs.fleet.parts import ready
from libs.fleet.queues import lane_append, lane_pop
from libs.fleet.residents import become_resident, begin_move, look_at_link, part_left
from libs.fleet.runs import end_batch, give, start_batch
from libs.fleet.sequences import end_iteration, prefill_left, start_iteration
from libs.fleet.steps import end_step, train
from libs.fleet.tables import (
    BATCH,
    FAULT,
    HOPELESS,
    IDLE,
    LEFT,
    LINK_LOOK,
    LLM,
    LOADED,
    LOOK,
    MOVE_BEGINS,
    NEVER_MS,
    READY,
    RUN_ENDS,
    STEP_ENDS,
    Table,
    World,
    arrivals,
    gpu_replicas,
    gpus,
    heap,
    lanes,
    looks,
    models,
    part_gpus,
    parts,
    replica_gpus,
    replicas,
    requests,
    said,
)


@kernel
def _send(w: World, m: int) -> None:
    """Send or reject the first requests in a model's queue, until one has to wait."""
    model = models(w)[m]
    while model.head >= 0:
        q = model.head
        request = requests(w)[q]
        chosen = choose(w, q) if model.known else REJECT
        now_ms = w.now_ms
        hopeless_ms = request.due_ms + model.fastest_ms
        if model.rejects and chosen == WAIT and hopeless_ms <= now_ms:
            chosen = REJECT
        if chosen == REJECT:
            lane_pop(w, m)
            model.queue -= 1
            end_rejected(w, q)
        elif chosen in (HOLD, WAIT):
            if chosen == WAIT and model.rejects and hopeless_ms < model.hopeless_ms:
                model.hopeless_ms = hopeless_ms
                plan(w, hopeless_ms, HOPELESS, m, 0)
            return
        else:
            lane_pop(w, m)
            if model.kind == LLM:
                request.todo = prefill_left(w, chosen, q)
            give(w, chosen, q)


@kernel
def _send_held(w: World, g: int, pressed: bool) -> None:
    """Send those that are held back for an idle GPU; or who would be late after another step."""
    for k in range(gpus(w)[g].n_replicas):
        r = gpu_replicas(w)[g, k]
        m = replicas(w)[r].model
        if models(w)[m].head >= 0 and not (pressed and outlast_a_step(w, g, r)):
            _send(w, m)


@kernel
def _train(w: World, g: int) -> None:
    """Start a step on an idle GPU, unless those held back for it, or for its gang, are pressed."""
    gpu = gpus(w)[g]
    p = gpu.part
    for i in range(parts(w)[p].n_gpus if p >= 0 else 0):
        _send_held(w, part_gpus(w)[p, i], True)
    if gpu.requests == 0:
        train(w, g)
    if gpu.run == IDLE and gpu.requests == 0:
        _send_held(w, g, False)  # there is no step to wait for


@kernel
def _look(w: World, g: int) -> None:
    """Give an idle GPU its next work: for the requests that have waited longest, or else a step."""
    gpu = gpus(w)[g]
    if gpu.run != IDLE or gpu.down:
        return
    now_ms = w.now_ms
    waits = False
    last_ms, last_number = -NEVER_MS, -1
    while True:
        # The same order on every GPU, so replicas over several GPUs cannot wait for each other.
        first, first_ms, first_number = -1, NEVER_MS, -1
        for k in range(gpu.n_replicas):
            r = gpu_replicas(w)[g, k]
            replica = replicas(w)[r]
            if replica.held == 0 or (replica.kind == BATCH and replica.held == replica.running):
                continue
            since_ms = replica.since_ms
            if replica.kind == BATCH:
                since_ms = requests(w)[replica.head].queued_ms
            done = since_ms < last_ms or (since_ms == last_ms and replica.number <= last_number)
            if (
                done
                or since_ms > first_ms
                or (since_ms == first_ms and replica.number > first_number and first >= 0)
            ):
                continue
            first = r
            first_ms = since_ms
            first_number = replica.number
        if first < 0:
            break
        waits = True
        last_ms, last_number = first_ms, first_number
        replica = replicas(w)[first]
        ready_ms = first_ms
        if replica.kind == BATCH and replica.held < replica.batch_size:
            ready_ms += replica.wait_ms
        if ready_ms > now_ms:
            look_at(w, g, ready_ms)
            continue
        for i in range(replica.n_gpus):
            if gpus(w)[replica_gpus(w)[first, i]].run != IDLE:
                return  # kept free for it until its other GPUs are free
        if replica.kind == BATCH:
            start_batch(w, first)
            return
        if start_iteration(w, first):
            return
    if not waits:
        _train(w, g)


@entry
def arrive(w: World, q: int) -> None:
    """Take a request in. A prompt that no KV pool holds is rejected at once."""
    request = requests(w)[q]
    model = models(w)[request.model]
    model.arrivals += 1
    model.prompt_tokens += request.prompt_tokens
    if not model.known or (model.kind == LLM and request.prompt_tokens >= model.kv_tokens):
        end_rejected(w, q)
        return
    model.queue += 1
    lane_append(w, q)


@kernel
def _take_event(w: World) -> None:
    """Take the event that is due."""
    event = heap(w)[0]
    kind, subject, ticket = event.kind, event.subject, event.ticket
    drop_first(w)
    now_ms = w.now_ms
    if kind == RUN_ENDS:
        if replicas(w)[subject].ticket == ticket:
            if replicas(w)[subject].kind == BATCH:
                end_batch(w, subject)
            else:
                end_iteration(w, subject)
                consolidate(w, subject)
    elif kind == LOOK:
        if gpus(w)[subject].look_ms <= now_ms:
            gpus(w)[subject].look_ms = NEVER_MS
            look_soon(w, subject)
    elif kind == STEP_ENDS:
        if parts(w)[subject].ticket == ticket:
            end_step(w, subject)
    elif kind == MOVE_BEGINS:
        if replicas(w)[subject].ticket == ticket:
            begin_move(w, subject)
    elif kind == LINK_LOOK:
        look_at_link(w, subject)
    elif kind == LOADED:
        if replicas(w)[subject].ticket == ticket:
            become_resident(w, subject)
    elif kind == LEFT:
        if parts(w)[subject].ticket == ticket:
            part_left(w, subject)
    elif kind == READY:
        if parts(w)[subject].ticket == ticket:
            ready(w, subject)
    elif kind == FAULT:
        take_fault(w, subject, ticket)
    elif kind == HOPELESS:
        models(w)[subject].hopeless_ms = NEVER_MS
        lane_soon(w, subject)


@kernel
def _settle_moment(w: World) -> None:
    """Do all that can be done now: requests go out, then idle GPUs take up work."""
    head = w
    while head.n_lanes > 0 or head.n_looks > 0:
        if head.n_lanes > 0:
            m = lanes(w)[head.first_lane]
            head.first_lane += 1
            if head.first_lane == len(lanes(w)):
                head.first_lane = 0
            head.n_lanes -= 1
            models(w)[m].looked_for = 0
            _send(w, m)
        else:
            g = looks(w)[head.first_look]
            head.first_look += 1
            if head.first_look == len(looks(w)):
                head.first_look = 0
            head.n_looks -= 1
            gpus(w)[g].looked_for = 0
            _look(w, g)


@kernel
def _has_room(w: World) -> bool:
    """Whether the tables hold all that may be added at one moment."""
    head = w
    return head.n_heap + head.room <= len(heap(w)) and head.n_said + head.room <= len(said(w))


@entry
def next_ms(w: World) -> float:
    """Return the time before which nothing happens unless an order comes."""
    head = w
    if head.n_lanes > 0 or head.n_looks > 0:
        return head.now_ms
    at_ms = heap(w)[0].at_ms if head.n_heap > 0 else NEVER_MS
    if head.next_arrival < head.n_arrivals:
        at_ms = min(at_ms, requests(w)[arrivals(w)[head.next_arrival]].due_ms)
    return max(at_ms, head.now_ms)


@entry
def play(heads: Table, until_ms: float) -> bool:
    """Play up to and including `until_ms`; False where a table is full: grow it, call again.

    It takes the table of the one `HEAD`, which numba passes faster than the record in it.
    """
    return _play(heads[0], until_ms)


@kernel
def _play(w: World, until_ms: float) -> bool:
    head = w
    while True:
        if not _has_room(w):
            return False
        _settle_moment(w)
        at_ms = next_ms(w)
        if at_ms > until_ms:
            break
        head.now_ms = at_ms
        while head.n_heap > 0 and heap(w)[0].at_ms <= at_ms:
            if not _has_room(w):
                return False
            _take_event(w)
        while head.next_arrival < head.n_arrivals:
            q = arrivals(w)[head.next_arrival]
            if requests(w)[q].due_ms > at_ms:
                break
            head.next_arrival += 1
            arrive(w, q)
    head.now_ms = until_ms
    return True
