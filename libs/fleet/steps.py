"""Training steps: what a GPU does where no request waits, if it disturbs nobody.

A step is never interrupted, and is kept once it has ended. The GPUs of a gang step together: while
one of them serves, the others wait.
"""

from libs.fleet.agenda import look_at, look_soon, plan
from libs.fleet.charge import settle
from libs.fleet.jit import entry, kernel
from libs.fleet.parts import evict, leave, save_if_due, settle_here
from libs.fleet.tables import (
    ABSENT,
    HERE,
    IDLE,
    LEAVING,
    LLM,
    NEVER_MS,
    RESIDENT,
    SERVING,
    STEP,
    STEP_ENDS,
    STEPPING,
    World,
    gpu_replicas,
    gpus,
    jobs,
    models,
    nodes,
    part_gpus,
    parts,
    replicas,
    step_ms,
)


@entry
def next_step_ms(last_from_ms: float, last_cost_ms: float, serving_shares: float) -> float:
    """Return when the next step may start on a GPU that also serves.

    Steps get at most 1 - `serving_shares` of the time: a step with its switches, of cost c, is
    followed by the next not before c / (1 - shares) from its start. Over any span, then, training
    takes at most its share and one step. Never when serving is to have all.
    """
    training_share = 1.0 - serving_shares
    if training_share <= 1e-9:
        return NEVER_MS
    return last_from_ms + last_cost_ms / training_share


@kernel
def has_room_for(w: World, g: int, memory: int) -> bool:
    """Whether a job fits beside all that serving may want: full batches, loads under way."""
    gpu = gpus(w)[g]
    batch = 0
    for k in range(gpu.n_replicas):
        replica = replicas(w)[gpu_replicas(w)[g, k]]
        batch = max(batch, -(-replica.batch_size * replica.request_bytes // replica.n_gpus))
    return gpu.promised + batch + memory <= gpu.memory


@kernel
def gives_way(w: World, g: int, job: int, to_standbys: bool) -> bool:
    """Whether a request that comes just after a step has begun can still meet its objective.

    With `to_standbys` also one for a replica that the router may not use yet. It waits for the
    switch to training, the step (its own `wait_ms` passes meanwhile) and the switch back; then it
    is served alone, or an LLM runs one iteration for its first token.
    """
    gpu = gpus(w)[g]
    switch_ms = w.switch_ms
    for k in range(gpu.n_replicas):
        replica = replicas(w)[gpu_replicas(w)[g, k]]
        if replica.state != RESIDENT or (replica.concurrency == 0 and not to_standbys):
            continue
        model = models(w)[replica.model]
        until_ms = max(switch_ms + step_ms(w)[job, gpu.device_type], replica.wait_ms) + switch_ms
        if replica.kind == LLM:
            in_time = until_ms + replica.iteration_max_ms <= model.ttft_ms
        else:
            in_time = until_ms + replica.alpha_ms + replica.beta_ms <= model.objective_ms
        if not in_time:
            return False
    return True


@kernel
def _may_host(w: World, g: int, job: int, to_standbys: bool) -> bool:
    """Whether a job without a place may settle on a GPU."""
    gpu = gpus(w)[g]
    node = nodes(w)[gpu.node]
    runs = not gpu.down and not node.cordoned and node.started_ms <= w.now_ms
    idle = gpu.part < 0 and gpu.requests == 0
    fits = runs and idle and has_room_for(w, g, jobs(w)[job].memory)
    return fits and gives_way(w, g, job, to_standbys)


@kernel
def _settle_next(w: World, g: int) -> None:
    """Find the first job of the backlog for a GPU without one; a gang gathers from the last GPU.

    First of those that give way to all who are resident: standbys are woken at any time, and a job
    that cannot go on then has its memory there for nothing.
    """
    for to_standbys in (True, False):
        _settle_first(w, g, to_standbys)
        if gpus(w)[g].part >= 0:
            return


@kernel
def _settle_first(w: World, g: int, to_standbys: bool) -> None:
    node = nodes(w)[gpus(w)[g].node]
    for job in range(len(jobs(w))):
        if jobs(w)[job].steps_left <= 0 or step_ms(w)[job, gpus(w)[g].device_type] <= 0.0:
            continue
        if not _may_host(w, g, job, to_standbys):
            continue
        wanted = jobs(w)[job].gpus
        p = 0
        while parts(w)[p].state != ABSENT:
            p += 1
        n = 0
        if wanted == 1:
            part_gpus(w)[p, 0] = g
            n = 1
        else:
            for other in range(node.first_gpu + node.n_gpus - 1, node.first_gpu - 1, -1):
                if n < wanted and _may_host(w, other, job, to_standbys):
                    part_gpus(w)[p, n] = other
                    n += 1
        if n < wanted:
            continue
        part = parts(w)[p]
        part.job = job
        part.n_gpus = n
        settle_here(w, p)
        if wanted > 1:
            for i in range(n):
                look_soon(w, part_gpus(w)[p, i])
        if gpus(w)[g].part >= 0:
            return


@kernel
def train(w: World, g: int) -> None:
    """Start a step on an idle GPU where no request waits, if it disturbs nobody."""
    gpu = gpus(w)[g]
    if gpu.part < 0:
        if w.steps_left <= 0:
            return
        _settle_next(w, g)
        if gpu.part < 0:
            return
    p = gpu.part
    part = parts(w)[p]
    if part.state != HERE or part.ready_ms > w.now_ms or part.saving:
        return
    if jobs(w)[part.job].steps_left <= 0:
        leave(w, p)  # done: its memory is free, and there is nothing to save
        return
    free, room, in_time = True, True, True
    from_ms = 0.0
    for i in range(part.n_gpus):
        other = part_gpus(w)[p, i]
        member = gpus(w)[other]
        free = free and member.run == IDLE and member.requests == 0
        room = room and has_room_for(w, other, jobs(w)[part.job].memory)
        in_time = in_time and gives_way(w, other, part.job, False)
        shares = 0.0
        for k in range(member.n_replicas):
            replica = replicas(w)[gpu_replicas(w)[other, k]]
            if replica.state == RESIDENT and replica.concurrency > 0:
                shares += replica.serving_share
        if shares > 0.0:  # else steps follow each other, and no switch lies between them
            from_ms = max(from_ms, next_step_ms(member.step_from_ms, member.step_cost_ms, shares))
    if not room:
        evict(w, p)  # batches have grown: go now, while nobody waits for it
    elif free and in_time and from_ms <= w.now_ms:
        part.blocked_ms = -1.0
        _start_step(w, p)
    elif free and in_time and from_ms < NEVER_MS:
        look_at(w, g, from_ms)
    else:
        _give_up(w, g, p)


@kernel
def _give_up(w: World, g: int, p: int) -> None:
    """Let a part go that has kept this GPU idle for as long as its going costs.

    Its steps are too long for those who may be served here, or another GPU of its gang serves; and
    another job could step. Whether that lasts nobody knows, but who waits for as long as the change
    costs pays at most twice what the best choice would have (ski rental: Karlin, Manasse, Rudolph
    and Sleator, "Competitive snoopy caching", 1988).
    """
    part = parts(w)[p]
    if not _other_may_step(w, g, part.job):
        return
    if part.blocked_ms < 0.0:
        part.blocked_ms = w.now_ms
    until_ms = part.blocked_ms + jobs(w)[part.job].checkpoint_ms + jobs(w)[part.job].restore_ms
    if until_ms <= w.now_ms:
        evict(w, p)
    else:
        look_at(w, g, until_ms)


@kernel
def _other_may_step(w: World, g: int, but: int) -> bool:
    """Whether a job of single GPUs, `but` one, could step on this GPU now."""
    gpu = gpus(w)[g]
    if gpu.run != IDLE or gpu.requests > 0:
        return False
    for job in range(len(jobs(w))):
        if (
            job != but
            and jobs(w)[job].gpus == 1
            and jobs(w)[job].steps_left > 0
            and step_ms(w)[job, gpu.device_type] > 0.0
            and has_room_for(w, g, jobs(w)[job].memory)
            and gives_way(w, g, job, False)
        ):
            return True
    return False


@kernel
def _start_step(w: World, p: int) -> None:
    head = w
    part = parts(w)[p]
    job = jobs(w)[part.job]
    job.steps_left -= 1
    head.steps_left -= 1
    longest_ms, switches = 0.0, False
    for i in range(part.n_gpus):
        gpu = gpus(w)[part_gpus(w)[p, i]]
        longest_ms = max(longest_ms, step_ms(w)[part.job, gpu.device_type])
        switches = switches or gpu.last == SERVING
    switch_ms = head.switch_ms if switches else 0.0
    part.ends_ms = head.now_ms + switch_ms + longest_ms
    part.state = STEPPING
    for i in range(part.n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        gpu = gpus(w)[g]
        gpu.run = STEP
        gpu.last = STEP
        gpu.work_from_ms = head.now_ms + switch_ms
        gpu.ends_ms = part.ends_ms
        gpu.switching_ms += switch_ms
        gpu.step_from_ms = head.now_ms
        gpu.step_cost_ms = longest_ms + 2 * head.switch_ms
    plan(w, part.ends_ms, STEP_ENDS, p, part.ticket)


@kernel
def end_step(w: World, p: int) -> None:
    """End a step: it is kept."""
    part = parts(w)[p]
    part.ends_ms = 0.0
    part.unsaved_steps += 1
    jobs(w)[part.job].steps_kept += 1
    gpus(w)[part_gpus(w)[p, 0]].steps += 1
    for i in range(part.n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        gpu = gpus(w)[g]
        worked_ms = gpu.ends_ms - gpu.work_from_ms
        gpu.run = IDLE
        gpu.busy_training_ms += worked_ms
        gpu.unsaved_busy_ms += worked_ms
        look_soon(w, g)
    if part.state != LEAVING:
        part.state = HERE
        save_if_due(w, p)
