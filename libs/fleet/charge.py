"""Whom each millisecond of a GPU is charged to: exactly one of serving, training and free.

*Serving*: requests or their work are here, it switches, or a model holds the GPU while no step
runs, or a job saves or fetches its state, or steps are lost with a node. *Training*: a step runs
and no request is here. *Free*: the rest.
"""

from libs.fleet.jit import entry, kernel
from libs.fleet.tables import IDLE, STEP, World, gpus


@entry
def settle(w: World, g: int) -> None:
    """Charge the time since the last change. Call it before every change of what is here."""
    gpu = gpus(w)[g]
    now_ms = w.now_ms
    from_ms = gpu.settled_ms
    elapsed_ms = now_ms - from_ms
    if elapsed_ms <= 0.0:
        return
    gpu.settled_ms = now_ms
    trained_ms = 0.0
    if gpu.run == STEP and gpu.requests == 0:
        trained_ms = max(0.0, now_ms - max(from_ms, gpu.work_from_ms))
        gpu.training_ms += trained_ms
        gpu.unsaved_training_ms += trained_ms
    if gpu.run != IDLE or gpu.n_replicas > 0 or gpu.overhead > 0:
        gpu.serving_ms += elapsed_ms - trained_ms
    else:
        gpu.free_ms += elapsed_ms
    gpu.standby_byte_ms += elapsed_ms * gpu.standby
    if gpu.n_loading > 0:
        gpu.loading_ms += elapsed_ms
    if gpu.down:
        gpu.down_ms += elapsed_ms


@kernel
def roll_back(w: World, g: int) -> None:
    """Charge to serving what was charged to training since the last checkpoint: it is lost."""
    gpu = gpus(w)[g]
    gpu.training_ms -= gpu.unsaved_training_ms
    gpu.serving_ms += gpu.unsaved_training_ms
    gpu.busy_training_ms -= gpu.unsaved_busy_ms
    gpu.unsaved_training_ms = 0.0
    gpu.unsaved_busy_ms = 0.0
