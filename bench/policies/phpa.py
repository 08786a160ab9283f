"""The Predictive HorizontalPodAutoscaler (PHPA): forecasts from what the HPA rule said before.

Rules as in jthomperoo/predictive-horizontal-pod-autoscaler, internal/controllers/controller.go and
algorithms/: each 15 s the HPA's rule names a number, which joins a history; a line, or the method
of Holt and Winters, goes on from there, and the largest of all counts. Then a window of 300 s
before fewer are taken, and steps of 4 or of as many as there are in a minute.

What it foresees are its own past answers, so a wrong past is carried on. A history of days is out
of its reach: a day has 5760 of its steps, and its fit must end within 30 s.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from bench.policies.autoscaler import Case, Floats
from bench.policies.hpa import Behavior, Hpa, HpaSetting

BEHAVIOR = Behavior(period_ms=60_000.0)


class Line(NamedTuple):
    """A straight line through the last answers; the defaults are those of the peer's example."""

    history_size: int = 6
    look_ahead_ms: float = 10_000.0


class HoltWinters(NamedTuple):
    """Level, trend and season, all added; the defaults are those of the peer's example."""

    alpha: float = 0.9
    beta: float = 0.9
    gamma: float = 0.9
    season: int = 6  # steps of 15 s
    seasons: int = 4  # of history


TRIED: Sequence[Line | HoltWinters] = (
    *(Line(6), Line(6, 60_000.0), Line(12, 60_000.0), Line(12, 120_000.0)),
    HoltWinters(0.5, 0.1, 0.1),
)


class PhpaSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.8
    models: tuple[Line | HoltWinters, ...] = (Line(),)
    behavior: Behavior = BEHAVIOR


class Phpa(Hpa):
    """The rule for one model."""

    variants: ClassVar[Mapping[str, PhpaSetting]] = MappingProxyType(  # type: ignore[assignment]
        {"default": PhpaSetting(), "holt-winters": PhpaSetting(models=(HoltWinters(),))}
    )
    tried: ClassVar[Sequence[PhpaSetting]] = tuple(  # type: ignore[assignment]
        PhpaSetting(util, (model,), Behavior())
        for model in TRIED
        for util in (0.4, 0.5, 0.6, 0.7, 0.8)
    )

    def __init__(self, case: Case, setting: PhpaSetting = PhpaSetting()) -> None:  # noqa: B008 - immutable
        super().__init__(case, HpaSetting(setting.util_target, setting.behavior))
        self._models = setting.models
        longest = max((_length(model) for model in setting.models), default=1)
        self._answers: deque[int] = deque(maxlen=longest)

    def _by_metric(self, now_ms: float, replicas: int, ready: int) -> int:
        self._answers.append(super()._by_metric(now_ms, replicas, ready))
        foreseen = [self._foreseen(model) for model in self._models]
        return max(self._answers[-1], *(n for n in foreseen if n is not None), 0)

    def _foreseen(self, model: Line | HoltWinters) -> int | None:
        """Return what a model says; None as long as it has too short a history."""
        answers = np.array(self._answers, dtype=np.float64)[-_length(model) :]
        if isinstance(model, Line):
            if len(answers) < 2:
                return None
            ahead = model.look_ahead_ms / self.decide_every_ms
            steps = np.arange(len(answers)) - (len(answers) - 1)
            slope, level = (float(c) for c in np.polyfit(steps, answers, 1))
            return ceil(level + slope * ahead - 1e-6)  # less the noise of floats
        least = max(2 * model.season, 10 + 2 * (model.season // 2))
        return None if len(answers) < least else ceil(holt_winters(answers, model) - 1e-6)


def _length(model: Line | HoltWinters) -> int:
    return model.history_size if isinstance(model, Line) else model.season * model.seasons


def holt_winters(values: Floats, model: HoltWinters) -> float:
    """Return the value after the last. The two first seasons set level, trend and season."""
    m = model.season
    first = values[:m]
    level, trend = float(first.mean()), float((values[m : 2 * m] - first).mean() / m)
    season = list(first - level)
    for i, value in enumerate(values):
        before, expected = level, level + trend
        season_before = season[i % m]
        season[i % m] += model.gamma * (value - expected - season_before)
        level = model.alpha * (value - season_before) + (1 - model.alpha) * expected
        trend = model.beta * (level - before) + (1 - model.beta) * trend
    return float(level + trend + season[len(values) % m])
