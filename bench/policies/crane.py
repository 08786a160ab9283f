"""Crane's EffectiveHorizontalPodAutoscaler (EHPA): the HPA, and a forecast from days of history.

Rules as in gocrane/crane, pkg/controller/ehpa/hpa.go and pkg/metricprovider/
external_metric_provider.go: beside its metrics, the HPA gets the requests per second, and the most
that is foreseen of them in the next hour; the largest answer counts. The forecast (`dsp.py`) is
made anew each 12 h, from 48 h of minutes at least; where no period is found, or too little is
known, only the HPA is left.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from bench.policies.autoscaler import Case, Floats, Sample
from bench.policies.dsp import DAY, WEEK, forecast, period_of
from bench.policies.hpa import Behavior, Hpa, HpaSetting, of_total

MINUTE_MS = 60_000.0
REFIT_MS = 12 * 60 * MINUTE_MS
HISTORY_LEAST = 2 * DAY  # minutes


class CraneSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.8
    window_ms: float = 3_600_000.0  # predictionWindowSeconds: how far ahead the most is sought
    history_days: int = 15
    behavior: Behavior | None = None


class Crane(Hpa):
    """The rule for one model."""

    variants: ClassVar[Mapping[str, CraneSetting]] = MappingProxyType(  # type: ignore[assignment]
        {"default": CraneSetting()}
    )
    tried: ClassVar[Sequence[CraneSetting]] = tuple(  # type: ignore[assignment]
        CraneSetting(util, window_ms, history_days)
        for window_ms, history_days, util in product(
            (600_000.0, 3_600_000.0), (2, 7, 15), (0.5, 0.6, 0.7, 0.8, 0.9)
        )
    )

    def __init__(self, case: Case, setting: CraneSetting = CraneSetting()) -> None:  # noqa: B008 - immutable
        super().__init__(case, HpaSetting(setting.util_target, setting.behavior))
        self._rate_target_rps = setting.util_target * case.full.rate_rps
        self._window_ms = setting.window_ms
        self._history = setting.history_days * DAY
        self._minutes = case.past_rps  # up to the last whole minute
        self._minute: deque[Sample] = deque()
        self._counted = Sample(0.0, 0, 0, 0, 0)  # the last sample that closed a minute
        self._foreseen: Floats = np.zeros(0)  # a minute each, from `_fitted_ms` on
        self._fitted_ms = 0.0
        self._fit(0.0)

    def see(self, sample: Sample) -> None:
        """Keep the newest samples, and a mean for each minute."""
        super().see(sample)
        self._minute.append(sample)
        while self._minute[0].at_ms < sample.at_ms - MINUTE_MS:
            self._minute.popleft()
        if sample.at_ms - self._counted.at_ms >= MINUTE_MS:
            self._minutes = np.append(self._minutes, _rate_rps(self._counted, sample))
            self._counted = sample

    def _by_metric(self, now_ms: float, replicas: int, ready: int) -> int:
        if now_ms - self._fitted_ms >= REFIT_MS:
            self._fit(now_ms)
        by_hpa = super()._by_metric(now_ms, replicas, ready)
        rate_rps = max(_rate_rps(self._minute[0], self._minute[-1]), self._most_rps(now_ms))
        return max(by_hpa, of_total(rate_rps, self._rate_target_rps, replicas))

    def _most_rps(self, now_ms: float) -> float:
        """Return the most foreseen within the window; 0 without a forecast that reaches there."""
        first = int((now_ms - self._fitted_ms) // MINUTE_MS)
        last = int((now_ms - self._fitted_ms + self._window_ms) // MINUTE_MS)
        return float(self._foreseen[first : last + 1].max(initial=0.0))

    def _fit(self, now_ms: float) -> None:
        self._fitted_ms = now_ms
        past = self._minutes[-self._history :]
        period = period_of(past) if len(past) >= HISTORY_LEAST else None
        self._foreseen = forecast(past, period) if period in (DAY, WEEK) else np.zeros(0)


def _rate_rps(first: Sample, last: Sample) -> float:
    took_ms = last.at_ms - first.at_ms
    return 1000 * (last.arrivals - first.arrivals) / took_ms if took_ms > 0 else 0.0
