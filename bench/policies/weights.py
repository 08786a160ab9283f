"""Our core with another rule for the split of a GPU: by weights of latency and utilisation."""

from bench.policies.ours import Ours
from bench.policies.policy import Setting
from services.scheduler.core.policy import Policy as SchedulerPolicy


class Weights(Ours):
    """`ours`, with `weight_rule` (`services/scheduler/core/weights.py`)."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, SchedulerPolicy(weight_rule=True))
