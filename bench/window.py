"""The two parts of a run: peers are tuned on the first, and everything is judged on the second.

A run is [0, duration]. What comes before `warmup_s` counts for nothing; of the rest, the first 30 %
is for tuning. All policies are judged on what is left, also those that nothing is tuned of, and
also when nothing is tuned: so any two rows of a scenario can be compared.
"""

from typing import NamedTuple

from bench.load import Load
from bench.scenario import Scenario

TUNED_SHARE = 0.3  # of the run after the warm-up


class Window(NamedTuple):
    """The arrivals and the GPU-time in [begin, end)."""

    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end_s - self.begin_s


def tuned_on(scenario: Scenario, load: Load) -> Window:
    """Return the part on which peers are tuned."""
    warmup_s = scenario.warmup_s
    return Window(warmup_s, warmup_s + TUNED_SHARE * (load.duration_s - warmup_s))


def judged_on(scenario: Scenario, load: Load) -> Window:
    """Return the part on which all policies are judged."""
    return Window(tuned_on(scenario, load).end_s, load.duration_s)
