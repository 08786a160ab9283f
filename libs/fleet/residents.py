"""How replicas come and go: memory, loading, draining, the way to host memory and back.

Loading takes memory and bandwidth, not compute: the node's start where it does not run, the image,
the bytes over the node's link, the compilation. From host memory it is the bytes alone. Memory is
taken for real: what does not fit drives a training job out, and where that is not enough, it is an
out-of-memory event, which kills the replica.
"""

from libs.fleet.agenda import lane_soon, look_at, look_soon, plan
from libs.fleet.charge import settle
from libs.fleet.jit import entry, kernel
from libs.fleet.links import abandon_transfer, begin_transfer, take_ended
from libs.fleet.parts import evict, leave
from libs.fleet.prefix import clear
from libs.fleet.queues import hand_back
from libs.fleet.tables import (
    DRAINING,
    GONE,
    IN_HOST,
    LLM,
    LOADED,
    LOADING,
    MOVE_BEGINS,
    NEVER_MS,
    ORDERED,
    OUT_OF_MEMORY,
    RESIDENT,
    SAID_GONE,
    SAID_LOADED,
    TO_HOST,
    World,
    gpu_replicas,
    gpus,
    laws,
    models,
    nodes,
    orders,
    part_gpus,
    parts,
    replica_gpus,
    replicas,
    said,
)


@kernel
def tell(w: World, kind: int, r: int, reason: int, took_ms: float) -> None:
    """Add a line to the log."""
    head = w
    line = said(w)[head.n_said]
    head.n_said += 1
    line.at_ms = head.now_ms
    line.kind = kind
    line.replica = replicas(w)[r].number
    line.reason = reason
    line.took_ms = took_ms
    nodes(w)[replicas(w)[r].node].changed = 1


@entry
def count_standby(w: World, r: int) -> None:
    """Bring the memory of standbys on a replica's GPUs up to date: resident, and not awake."""
    for i in range(replicas(w)[r].n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        total = 0
        for k in range(gpus(w)[g].n_replicas):
            other = replicas(w)[gpu_replicas(w)[g, k]]
            if other.state == RESIDENT and other.concurrency == 0:
                total += other.memory
        gpus(w)[g].standby = total


@kernel
def claim(w: World, r: int, size: int) -> bool:
    """Return whether a replica can have this memory on each of its GPUs now.

    Where it cannot, training jobs in its way begin to leave and a look follows; where even their
    leaving is not enough, the replica is killed.
    """
    n = replicas(w)[r].n_gpus
    short = False
    for i in range(n):
        gpu = gpus(w)[replica_gpus(w)[r, i]]
        taken = gpu.held + gpu.batch + size
        if taken > gpu.memory:
            gpu.oom += 1
            hand_back(w, r)
            remove(w, r, OUT_OF_MEMORY)
            return False
        short = short or taken + gpu.job > gpu.memory
    if not short:
        return True
    for i in range(n):
        gpu = gpus(w)[replica_gpus(w)[r, i]]
        if gpu.part >= 0 and gpu.held + gpu.batch + size + gpu.job > gpu.memory:
            evict(w, gpu.part)
    return False


@kernel
def remove(w: World, r: int, reason: int) -> None:
    """Take a replica that holds no request off its GPUs."""
    replica = replicas(w)[r]
    abandon_transfer(w, r)
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpu = gpus(w)[g]
        k = 0
        while k < gpu.n_replicas and gpu_replicas(w)[g, k] != r:
            k += 1
        if k < gpu.n_replicas:
            for later in range(k + 1, gpu.n_replicas):
                gpu_replicas(w)[g, later - 1] = gpu_replicas(w)[g, later]
            gpu.n_replicas -= 1
            gpu.promised -= replica.memory
        if replica.has_memory:
            gpu.held -= replica.memory
        if replica.state == LOADING:
            gpu.n_loading -= 1
        look_soon(w, g)
    if replica.from_host or replica.leaves_to_host or replica.state == IN_HOST:
        nodes(w)[replica.node].host_taken -= int(replica.load_bytes)
        replica.from_host = 0
        replica.leaves_to_host = 0
    replica.has_memory = 0
    replica.state = GONE
    replica.ticket += 1
    count_standby(w, r)
    model = models(w)[replica.model]
    model.unloads += 1
    k = 0
    while k < model.n_order and orders(w)[replica.model, k] != r:
        k += 1
    if k < model.n_order:
        for later in range(k + 1, model.n_order):
            orders(w)[replica.model, later - 1] = orders(w)[replica.model, later]
        model.n_order -= 1
    tell(w, SAID_GONE, r, reason, 0.0)


@kernel
def begin_load(w: World, r: int) -> bool:
    """Begin a load, unless a training job has to go first: then this is called again.

    False when the replica is gone for lack of memory.
    """
    replica = replicas(w)[r]
    if not claim(w, r, replica.memory):
        return replica.state != GONE
    replica.has_memory = 1
    for i in range(replica.n_gpus):
        gpus(w)[replica_gpus(w)[r, i]].held += replica.memory
    node = nodes(w)[replica.node]
    now_ms = w.now_ms
    if node.started_ms == NEVER_MS:
        node.started_ms = now_ms + node.start_ms
        for g in range(node.first_gpu, node.first_gpu + node.n_gpus):
            look_at(w, g, node.started_ms)
    move_from_ms = max(now_ms, node.started_ms) + replica.image_ms
    plan(w, move_from_ms, MOVE_BEGINS, r, replica.ticket)
    return True


@entry
def order_load(w: World, r: int) -> None:
    """Put a replica, whose record the caller has filled, on its GPUs, and begin to load it."""
    replica = replicas(w)[r]
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpu = gpus(w)[g]
        gpu_replicas(w)[g, gpu.n_replicas] = r
        gpu.n_replicas += 1
        gpu.n_loading += 1
        gpu.promised += replica.memory
    nodes(w)[replica.node].changed = 1
    begin_load(w, r)


@kernel
def begin_move(w: World, r: int) -> None:
    """The image is there: begin to move the weights."""
    replica = replicas(w)[r]
    begin_transfer(w, 2 * replica.node + replica.from_host, r, replica.load_bytes)


@kernel
def look_at_link(w: World, at: int) -> None:
    """End the transfers that have ended."""
    while True:
        r = take_ended(w, at)
        if r < 0:
            return
        replica = replicas(w)[r]
        if replica.state == LOADING:
            plan(w, w.now_ms + replica.compile_ms, LOADED, r, replica.ticket)
        else:
            _arrive_in_host(w, r)


@entry
def become_resident(w: World, r: int) -> None:
    """End a load."""
    replica = replicas(w)[r]
    if replica.from_host:
        nodes(w)[replica.node].host_taken -= int(replica.load_bytes)
        replica.from_host = 0
    replica.state = RESIDENT
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpus(w)[g].n_loading -= 1
    if replica.kind == LLM:
        clear(w, r)
    count_standby(w, r)
    took_ms = w.now_ms - replica.ordered_ms
    models(w)[replica.model].loads += 1
    law = laws(w)[replica.model, gpus(w)[replica_gpus(w)[r, 0]].device_type]
    law.loads += 1
    law.load_ms += took_ms
    tell(w, SAID_LOADED, r, ORDERED, took_ms)
    lane_soon(w, replica.model)


@entry
def drain(w: World, r: int) -> None:
    """Let a replica finish what it holds, then go. One that still loads goes at once."""
    replica = replicas(w)[r]
    lane_soon(w, replica.model)  # some may be held back for it
    if replica.held > 0:
        replica.state = DRAINING
        nodes(w)[replica.node].changed = 1
        count_standby(w, r)
    else:
        go(w, r)


@entry
def dismiss(w: World, r: int) -> None:
    """As `drain`, and for good: out of host memory too, or off the way there."""
    replica = replicas(w)[r]
    if replica.leaves_to_host:
        replica.leaves_to_host = 0
        nodes(w)[replica.node].host_taken -= int(replica.load_bytes)
    drain(w, r)


@kernel
def go(w: World, r: int) -> None:
    """Let a replica that holds nothing leave its GPUs, to host memory where so ordered."""
    replica = replicas(w)[r]
    if not replica.leaves_to_host:
        remove(w, r, ORDERED)
        return
    replica.state = TO_HOST
    nodes(w)[replica.node].changed = 1
    count_standby(w, r)
    begin_transfer(w, 2 * replica.node + 1, r, replica.load_bytes)


@kernel
def _arrive_in_host(w: World, r: int) -> None:
    """End the way to host memory: the GPUs are free of it."""
    replica = replicas(w)[r]
    for i in range(replica.n_gpus):
        g = replica_gpus(w)[r, i]
        settle(w, g)
        gpu = gpus(w)[g]
        k = 0
        while gpu_replicas(w)[g, k] != r:
            k += 1
        for later in range(k + 1, gpu.n_replicas):
            gpu_replicas(w)[g, later - 1] = gpu_replicas(w)[g, later]
        gpu.n_replicas -= 1
        gpu.promised -= replica.memory
        gpu.held -= replica.memory
        look_soon(w, g)
    replica.has_memory = 0
    replica.leaves_to_host = 0
    replica.state = IN_HOST
    models(w)[replica.model].unloads += 1
    nodes(w)[replica.node].changed = 1


@kernel
def part_left(w: World, p: int) -> None:
    """A part has saved its state: its memory goes to the loads that wait for it."""
    leave(w, p)
    for i in range(parts(w)[p].n_gpus):
        g = part_gpus(w)[p, i]
        k = 0
        while k < gpus(w)[g].n_replicas:
            r = gpu_replicas(w)[g, k]
            replica = replicas(w)[r]
            waits = replica.state == LOADING and not replica.has_memory
            if not waits or begin_load(w, r):
                k += 1
