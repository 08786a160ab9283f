"""The parts of the training backlog on their GPUs: a job takes its place, saves its state, goes.

A job is a bag of steps, and any GPU (for a gang: any set of GPUs of one node) with room for its
memory may take the next one. To give its memory back, a part first saves its state.
"""

from libs.fleet.agenda import look_soon, plan
from libs.fleet.charge import roll_back, settle
from libs.fleet.jit import kernel
from libs.fleet.tables import (
    ABSENT,
    HERE,
    LEAVING,
    LEFT,
    READY,
    STEPPING,
    World,
    gpus,
    jobs,
    part_gpus,
    parts,
)

NOTHING, RESTORING, SAVING = range(3)  # of `part.saving`


@kernel
def _overhead(w: World, p: int, more: int) -> None:
    for i in range(parts(w)[p].n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        gpus(w)[g].overhead += more


@kernel
def _wait_for(w: World, p: int, what: int, duration_ms: float) -> None:
    part = parts(w)[p]
    part.saving = what
    part.ready_ms = w.now_ms + duration_ms
    _overhead(w, p, 1)
    plan(w, part.ready_ms, READY, p, part.ticket)


@kernel
def settle_here(w: World, p: int) -> None:
    """Give a job its memory on the GPUs of a part made for it; it first fetches its state."""
    part = parts(w)[p]
    job = jobs(w)[part.job]
    part.state = HERE
    part.unsaved_steps = 0
    part.saved_ms = w.now_ms
    part.ready_ms = w.now_ms
    part.blocked_ms = -1.0
    part.saving = NOTHING
    for i in range(part.n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        gpus(w)[g].part = p
        gpus(w)[g].job = job.memory
    if job.begun and job.restore_ms > 0:
        job.restores += 1
        _wait_for(w, p, RESTORING, job.restore_ms)
    job.begun = 1


@kernel
def ready(w: World, p: int) -> None:
    """End a restore, or a checkpoint beside which the part stays."""
    part = parts(w)[p]
    if part.saving == SAVING:
        _saved(w, p)
    part.saving = NOTHING
    _overhead(w, p, -1)
    for i in range(part.n_gpus):
        look_soon(w, part_gpus(w)[p, i])


@kernel
def save_if_due(w: World, p: int) -> None:
    """After a step: begin a checkpoint when the last one is long ago."""
    part = parts(w)[p]
    job = jobs(w)[part.job]
    every_ms = job.checkpoint_every_ms
    if part.state == HERE and every_ms > 0 and w.now_ms - part.saved_ms >= every_ms:
        _wait_for(w, p, SAVING, job.checkpoint_ms)


@kernel
def evict(w: World, p: int) -> None:
    """Make a part leave: after its running step it saves its state, while serving goes on."""
    part = parts(w)[p]
    if part.state == LEAVING:
        return
    if part.saving != NOTHING:  # the plan to be ready comes to nothing
        part.saving = NOTHING
        part.ticket += 1
        _overhead(w, p, -1)
    from_ms = part.ends_ms if part.state == STEPPING else w.now_ms
    part.state = LEAVING
    _overhead(w, p, 1)
    plan(w, from_ms + jobs(w)[part.job].checkpoint_ms, LEFT, p, part.ticket)


@kernel
def leave(w: World, p: int) -> None:
    """Take a part, whose state is saved or needs no saving, off its GPUs."""
    part = parts(w)[p]
    if part.state == LEAVING:
        _overhead(w, p, -1)
        _saved(w, p)
    for i in range(part.n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        gpus(w)[g].part = -1
        gpus(w)[g].job = 0
        gpus(w)[g].unsaved_training_ms = 0.0
        gpus(w)[g].unsaved_busy_ms = 0.0
        look_soon(w, g)
    part.state = ABSENT
    part.ticket += 1


@kernel
def lose(w: World, p: int) -> None:
    """End a part with its node: what it did since its last checkpoint is to be done again."""
    part = parts(w)[p]
    job = jobs(w)[part.job]
    if part.saving != NOTHING or part.state == LEAVING:
        _overhead(w, p, -1)
    again = part.unsaved_steps + (1 if part.ends_ms > 0.0 else 0)  # one may be under way
    job.steps_left += again
    w.steps_left += again
    job.steps_kept -= part.unsaved_steps
    job.steps_rolled_back += part.unsaved_steps
    gpus(w)[part_gpus(w)[p, 0]].steps -= part.unsaved_steps
    for i in range(part.n_gpus):
        g = part_gpus(w)[p, i]
        settle(w, g)
        roll_back(w, g)
        gpus(w)[g].part = -1
        gpus(w)[g].job = 0
    part.ends_ms = 0.0
    part.state = ABSENT
    part.ticket += 1


@kernel
def _saved(w: World, p: int) -> None:
    part = parts(w)[p]
    jobs(w)[part.job].checkpoints += 1
    part.saved_ms = w.now_ms
    part.unsaved_steps = 0
    for i in range(part.n_gpus):
        gpu = gpus(w)[part_gpus(w)[p, i]]
        gpu.unsaved_training_ms = 0.0
        gpu.unsaved_busy_ms = 0.0
