"""Nodes that fail or are reclaimed, and come back: what was on them is lost.

Requests go back to the router and are served anew, training goes back to its last checkpoint, and a
node that comes back is cold. A reclaim is a failure with notice: jobs save their state, and the
policy may move what it wants to keep.
"""

from libs.fleet.agenda import look_soon
from libs.fleet.charge import settle
from libs.fleet.jit import entry, kernel
from libs.fleet.parts import evict, lose
from libs.fleet.queues import hand_back, held_prepend
from libs.fleet.residents import remove
from libs.fleet.tables import (
    FAIL,
    FAILED,
    GONE,
    HERE,
    IDLE,
    LLM,
    NEVER_MS,
    RECLAIM,
    World,
    gpus,
    models,
    nodes,
    parts,
    replicas,
    requests,
    sequences,
)


@kernel
def _return_running(w: World, r: int) -> None:
    """Put what a replica runs back at the head of its queue, as if it had never begun."""
    replica = replicas(w)[r]
    model = models(w)[replica.model]
    n = replica.running
    if replica.kind == LLM:
        for i in range(replica.running_in - 1, -1, -1):
            held_prepend(w, r, sequences(w)[r, i])
        n = replica.running_in
        replica.running_in = 0
        replica.decoding = 0
        replica.context = 0
        replica.reserved = 0
        replica.held_tokens = 0
        replica.pending = 0
    elif n > 0:
        q = replica.run_head
        for _ in range(n - 1):
            q = requests(w)[q].next
        requests(w)[q].next = replica.head
        if replica.head < 0:
            replica.tail = q
        replica.head = replica.run_head
    replica.running = 0
    model.queue += n
    model.in_flight -= n
    q = replica.head
    while q >= 0:
        request = requests(w)[q]
        request.generated = 0
        request.joined = 0
        request.done = 0
        request.todo = 0
        request.first_ms = -1.0
        if replica.kind == LLM:
            replica.held_tokens += request.prompt_tokens
        q = request.next


@kernel
def fail(w: World, n: int) -> None:
    """Lose all that is on a node."""
    node = nodes(w)[n]
    for r in range(len(replicas(w))):
        replica = replicas(w)[r]
        if replica.state == GONE or replica.node != n:
            continue
        _return_running(w, r)
        hand_back(w, r)
        remove(w, r, FAILED)
    for p in range(len(parts(w))):
        part = parts(w)[p]
        if part.state >= HERE and _is_on(w, p, n):
            lose(w, p)
    for g in range(node.first_gpu, node.first_gpu + node.n_gpus):
        settle(w, g)
        gpu = gpus(w)[g]
        gpu.run = IDLE
        gpu.last = IDLE
        gpu.batch = 0
        gpu.down = 1
    node.started_ms = NEVER_MS
    node.down = 1
    node.changed = 1


@kernel
def _is_on(w: World, p: int, n: int) -> bool:
    node = nodes(w)[n]
    for g in range(node.first_gpu, node.first_gpu + node.n_gpus):  # noqa: SIM110 - compiled
        if gpus(w)[g].part == p:
            return True
    return False


@entry
def take_fault(w: World, n: int, kind: int) -> None:
    """Carry out a fault."""
    node = nodes(w)[n]
    if kind == FAIL:
        if not node.down:
            fail(w, n)
    elif kind == RECLAIM:
        node.cordoned = 1
        for p in range(len(parts(w))):
            if parts(w)[p].state >= HERE and _is_on(w, p, n):
                evict(w, p)
    elif node.down or node.cordoned:
        if node.down:
            node.started_ms = NEVER_MS if node.start_ms > 0 else w.now_ms
        node.down = 0
        node.cordoned = 0
        node.changed = 1
        for g in range(node.first_gpu, node.first_gpu + node.n_gpus):
            settle(w, g)
            gpus(w)[g].down = 0
            look_soon(w, g)
