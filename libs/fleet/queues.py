"""Who waits where: a queue a model at the router, and one a replica. Chains through `next`."""

from libs.fleet.agenda import lane_soon
from libs.fleet.charge import settle
from libs.fleet.jit import entry, kernel
from libs.fleet.tables import LLM, World, gpus, models, replica_gpus, replicas, requests


@kernel
def lane_append(w: World, q: int) -> None:
    """Add a request at the end of its model's queue."""
    m = requests(w)[q].model
    model = models(w)[m]
    requests(w)[q].next = -1
    if model.head < 0:
        model.head = q
    else:
        requests(w)[model.tail].next = q
    model.tail = q
    lane_soon(w, m)


@kernel
def lane_prepend(w: World, q: int) -> None:
    """Add a request before all others in its model's queue."""
    m = requests(w)[q].model
    model = models(w)[m]
    requests(w)[q].next = model.head
    if model.head < 0:
        model.tail = q
    model.head = q
    lane_soon(w, m)


@kernel
def lane_pop(w: World, m: int) -> int:
    """Take the first request out of a model's queue, which is not empty."""
    model = models(w)[m]
    q = model.head
    model.head = requests(w)[q].next
    return q


@kernel
def held_append(w: World, r: int, q: int) -> None:
    """Add a request at the end of a replica's queue."""
    replica = replicas(w)[r]
    requests(w)[q].next = -1
    if replica.head < 0:
        replica.head = q
    else:
        requests(w)[replica.tail].next = q
    replica.tail = q


@kernel
def held_prepend(w: World, r: int, q: int) -> None:
    """Add a request before all others in a replica's queue."""
    replica = replicas(w)[r]
    requests(w)[q].next = replica.head
    if replica.head < 0:
        replica.tail = q
    replica.head = q


@kernel
def held_pop(w: World, r: int) -> int:
    """Take the first request out of a replica's queue, which is not empty."""
    replica = replicas(w)[r]
    q = replica.head
    replica.head = requests(w)[q].next
    return q


@kernel
def let_go(w: World, r: int, n: int) -> None:
    """Take n requests, which go unserved from here, off the GPUs of a replica."""
    for i in range(replicas(w)[r].n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpus(w)[g].requests -= n


@entry
def hand_back(w: World, r: int) -> None:
    """Give what waits at a replica back to the router, before all that came later."""
    replica = replicas(w)[r]
    model = models(w)[replica.model]
    n, first, last = 0, replica.head, -1
    q = first
    while q >= 0:
        request = requests(w)[q]
        request.replica = -1
        if replica.kind == LLM:
            replica.held_tokens -= request.prompt_tokens + request.generated
            replica.pending -= request.todo
        n += 1
        last = q
        q = request.next
    replica.head = -1
    replica.held -= n
    lane_soon(w, replica.model)  # some may be held back for it, too
    if n == 0:
        return
    requests(w)[last].next = model.head
    if model.head < 0:
        model.tail = last
    model.head = first
    model.handed_back += n
    let_go(w, r, n)
