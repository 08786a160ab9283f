"""What a policy of the benchmark is: it is woken, acts on the fleet, and sleeps again."""

import time
from typing import NamedTuple, Protocol

import numpy as np

from bench.full import Full
from bench.load import Load
from bench.scenario import Scenario
from libs.fleet.model import FleetModel


class Setting(NamedTuple):
    """What a policy is told before a run.

    Of the load, what came before is for all; to read ahead is for the clairvoyant alone.
    """

    scenario: Scenario
    full: dict[str, Full]  # by model, from past load
    load: Load
    seed: int


class Policy(Protocol):
    """One policy in one run."""

    decide_us: list[float]  # how long each decision took

    def start(self, fleet: FleetModel) -> float:
        """Set routers and the like at 0, where the common first replicas are in place.

        Returns when to be woken first, in ms.
        """
        ...

    def wake(self, fleet: FleetModel) -> float:
        """Act at `fleet.now_ms`, and return when to be woken next: later than that."""
        ...


class Stopwatch:
    """Adds how long a block took, in us, to a list. Only `decide_us` depends on the clock."""

    def __init__(self, into: list[float]) -> None:
        self._into = into

    def __enter__(self) -> None:
        self._begun_ns = time.perf_counter_ns()

    def __exit__(self, *exc: object) -> None:
        self._into.append((time.perf_counter_ns() - self._begun_ns) / 1000)


NEVER_MS = float(np.finfo(np.float64).max)
