"""The replica counts of a peer under our router and share loop: what time-slicing gains by itself.

The peer samples, decides and places as it does alone: whole GPUs, in its own time, up and down at
once. Our loop sees the fleet as it finds it, and decides only how what is resident is used: what
the router may wake, batches, and what trains beside. Our placement never runs, as its caution
before a drain would keep replicas that the peer has given up, and its packing would be one more
thing that the peer has not.
"""

from bench.policies.autoscaler import Autoscaler, MakeScaler
from bench.policies.ours import Ours
from bench.policies.policy import Setting
from libs.fleet.model import FleetModel
from services.scheduler.core.policy import Policy as SchedulerPolicy

NEVER_TICKS = 2**62


class Shared:
    """A policy made of one scaler a model, and of our loop without its placement."""

    def __init__(self, setting: Setting, make: MakeScaler) -> None:
        self._peer = Autoscaler(setting, make)
        self._loop = _ShareLoop(setting)
        self.decide_us = self._peer.decide_us
        self._peer_ms = self._loop_ms = 0.0

    def start(self, fleet: FleetModel) -> float:
        """Begin both; the router is ours."""
        self._peer_ms = self._peer.start(fleet)
        for spec in fleet.specs:
            fleet.set_router(spec.name, "first_fit")
        self._loop_ms = self._loop.start(fleet)
        return min(self._peer_ms, self._loop_ms)

    def wake(self, fleet: FleetModel) -> float:
        """Wake whichever is due, the peer first."""
        if self._peer_ms <= fleet.now_ms:
            there = set(fleet.replicas)
            self._peer_ms = self._peer.wake(fleet)
            for name in set(fleet.replicas) - there:
                fleet.set_concurrency(name, 0)  # it trains until our table names it, as with ours
        if self._loop_ms <= fleet.now_ms:
            self._loop_ms = self._loop.wake(fleet)
        return min(self._peer_ms, self._loop_ms)


class _ShareLoop(Ours):
    """`ours`, with no placement tick."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, SchedulerPolicy(placement_every_ticks=NEVER_TICKS))
        self._tick = 1  # tick 0 would be one
