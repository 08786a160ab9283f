"""What the fleet and its router look like on `/metrics`: read once a second, and nothing else."""

from collections import Counter

from libs.fleet.fleet import Fleet
from libs.fleet.gpu import Replica
from libs.fleet.router import Router
from services.executor import telemetry


def show(fleet: Fleet, router: Router) -> None:
    """Bring the gauges and sums of models, replicas and GPUs up to the fleet's present."""
    fleet.settle()
    _show_gpus(fleet)
    for model in router.models:
        telemetry.QUEUE.labels(model).set(router.queued(model))
        telemetry.IN_FLIGHT.labels(model).set(router.running(model))
    count = Counter((r.spec.name, _state(r)) for r in fleet.replicas.values())
    for model in {*router.models, *(model for model, _ in count)}:
        for state in telemetry.REPLICA_STATES:
            telemetry.REPLICAS.labels(model, state).set(count[model, state])


def _state(replica: Replica) -> str:
    if replica.state == "resident":
        return "awake" if replica.awake else "standby"
    return replica.state


def _show_gpus(fleet: Fleet) -> None:
    for gpu in fleet.gpus.values():
        place = (gpu.node, str(gpu.index))
        charge = (("serving", gpu.serving_ms), ("training", gpu.training_ms), ("free", gpu.free_ms))
        for kind, spent_ms in charge:
            telemetry.GPU_SECONDS.reach(spent_ms / 1000, *place, kind)
        telemetry.GPU_BUSY.reach(gpu.busy_serving_ms / 1000, *place, "serving")
        telemetry.GPU_BUSY.reach(gpu.busy_training_ms / 1000, *place, "training")
        telemetry.STEPS.reach(gpu.steps, *place)
        telemetry.MEMORY_USED.labels(*place).set(gpu.allocated_bytes)
        telemetry.MEMORY_TOTAL.labels(*place).set(gpu.memory_bytes)
