"""As many replicas as were reckoned beforehand, for ever: what most fleets are today."""

from bench.places import Places
from bench.policies.autoscaler import configure, scale, staying
from bench.policies.policy import NEVER_MS, Setting
from libs.fleet.model import FleetModel


class Static:
    """Loads what is missing at the start, and never moves again."""

    def __init__(self, setting: Setting, replicas: dict[str, int]) -> None:
        self.decide_us: list[float] = []
        self._specs = setting.scenario.models
        self._full = setting.full
        self._replicas = replicas

    def start(self, fleet: FleetModel) -> float:
        """Order all that is wanted beyond the common first replicas, or let go what is too much."""
        places = Places(fleet)
        for replica in fleet.replicas:
            configure(fleet, replica, self._full)
        for spec in sorted(self._specs, key=lambda spec: -spec.gpus):
            fleet.set_router(spec.name, "jsq")
            there = staying(fleet, spec.name)
            scale(fleet, places, spec, there, self._replicas[spec.name], self._full)
        return NEVER_MS

    def wake(self, fleet: FleetModel) -> float:
        """Do nothing."""
        return NEVER_MS
