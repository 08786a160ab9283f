"""Standbys: replicas beyond the targets, in memory that nobody needs.

A burst that nothing foretold is over before a load is, so only what is resident helps. And being
resident costs memory, not compute: while the router does not need a replica, its GPU trains. So the
fleet's memory is filled, but for the part that training is to have, and who is needed more drives
standbys out. How many times a model is covered is then a matter of its size and of the fleet's, not
of a guess at how large a burst may be.
"""

from services.scheduler.core.capacity import Capacity
from services.scheduler.core.contracts import Seen
from services.scheduler.core.jit import kernel
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas
from services.scheduler.core.targets import Targets


@kernel
def reserve_bytes(d: int, seen: Seen, policy: Policy) -> int:
    """Return the memory of a device that standbys leave to training."""
    return int((1.0 - policy.standby_memory_share) * seen.memory_total[d])


@kernel
def may_have_more(m: int, held: int, targets: Targets, seen: Seen) -> bool:
    """Whether model m, with `held` replicas, may have a standby: known, fitting and not paused."""
    some = targets.load_rps[m] > 0 and targets.nominal_rps[m] > 0 and not seen.paused[m]
    return some and held < seen.replicas_max[m]


@kernel
def cover(m: int, held: int, targets: Targets) -> float:
    """Return how many times `held` replicas would carry the load that the target is made for."""
    return float(held * targets.nominal_rps[m] / targets.load_rps[m])


@kernel
def hold_reserve(
    r: int, seen: Seen, replicas: Replicas, capacity: Capacity, policy: Policy
) -> bool:
    """Whether the GPUs of a replica have less memory left than training is to have."""
    for d in replicas.devices[r]:
        if d >= 0 and capacity.unreserved[d] < reserve_bytes(d, seen, policy):
            return True
    return False
