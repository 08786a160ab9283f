"""The training backlog: short steps for GPUs that serving leaves alone.

A job is a bag of steps, and any GPU that has room for its memory may take the next one; a step is
never interrupted, and counts once it has ended. Gangs, deadlines and priorities are not known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.fleet.spec import TrainingSpec


@dataclass(slots=True, eq=False)
class Job:
    """One job of the backlog and what is left of it."""

    spec: TrainingSpec
    steps_left: int

    @property
    def memory_bytes(self) -> int:
        """What it holds on a GPU from its first step there until it goes."""
        return self.spec.memory_bytes


class Backlog:
    """The jobs, in the order in which they are to be done."""

    def __init__(self, specs: Sequence[TrainingSpec]) -> None:
        self.jobs = [Job(spec, spec.steps) for spec in specs]

    def next_for(self, device_type: str) -> list[Job]:
        """Return the jobs that have steps left for this type of device, first come first."""
        return [job for job in self.jobs if job.steps_left and device_type in job.spec.step_ms]


def next_step_ms(last_from_ms: float, last_cost_ms: float, serving_shares: float) -> float:
    """Return when the next step may start on a GPU that also serves.

    Steps get at most 1 - `serving_shares` of the time: a step with its switches, of cost c, is
    followed by the next not before c / (1 - shares) from its start. Over any span, then, training
    takes at most its share and one step. Infinity when serving is to have all.
    """
    training_share = 1.0 - serving_shares
    if training_share <= 1e-9:
        return float("inf")
    return last_from_ms + last_cost_ms / training_share


def gives_way_in_time(
    step_ms: float, switch_ms: float, wait_ms: float, service_ms: float, objective_ms: float
) -> bool:
    """Whether a request that comes just after a step has begun can still meet its objective.

    It waits for the switch to training, the step (its own `wait_ms` passes meanwhile) and the
    switch back, then is served in `service_ms`.
    """
    return max(switch_ms + step_ms, wait_ms) + switch_ms + service_ms <= objective_ms
