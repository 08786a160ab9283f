"""KEDA on the lag of a Kafka topic: its own 0 to 1 and back, and the HPA that it makes between.

Rules as in kedacore/keda, pkg/scaling/executor/scale_scaledobjects.go and
pkg/scalers/kafka_scaler.go: each 30 s, active or not; from 0 at once, to 0 after 300 s without lag.
In between an HPA on an External AverageValue, which asks KEDA for the lag at each of its syncs; so
what it sees is fresh. Lag is what is not yet answered: requests are committed when they are.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Case, Sample
from bench.policies.hpa import of_total

POLLING_MS = 30_000.0


class KedaSetting(NamedTuple):
    """What an operator sets."""

    lag_threshold: float = 10.0  # requests for each replica
    util_target: float | None = None  # instead: what it holds at this part of its highest rate
    cooldown_ms: float = 300_000.0  # without lag, until the last replica goes
    stabilisation_ms: float = 300_000.0  # of the HPA, before fewer are taken


class Keda:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, KedaSetting]] = MappingProxyType({"default": KedaSetting()})
    tried: ClassVar[Sequence[KedaSetting]] = (
        *(KedaSetting(lag) for lag in (2.0, 5.0, 10.0, 20.0, 40.0)),
        *(
            KedaSetting(util_target=util, stabilisation_ms=window_ms)
            for window_ms in (300_000.0, 120_000.0, 600_000.0)
            for util in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        ),
    )

    scrape_every_ms = 15_000.0
    scrape_at_ms = 14_900.0
    delay_ms = 100.0  # KEDA asks the broker when the HPA asks KEDA
    decide_every_ms = 15_000.0  # the HPA's sync

    def __init__(self, case: Case, setting: KedaSetting = KedaSetting()) -> None:  # noqa: B008 - immutable
        util = setting.util_target
        self._threshold = setting.lag_threshold if util is None else case.full.held_at(util)
        self._setting = setting
        # Consumers beyond the partitions would idle, so the scaler counts no lag for them. The
        # topic has one for each replica that the fleet can hold: the bound is the fleet's.
        self._bounds = case.bounds
        self._lag: int | None = None
        self._active_ms = 0.0
        self._recommended: deque[tuple[float, int]] = deque()

    def see(self, sample: Sample) -> None:
        """Keep the newest lag."""
        self._lag = sample.queue + sample.in_flight

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if self._lag is None:
            return replicas
        if now_ms % POLLING_MS == 0:
            if self._lag > 0:
                self._active_ms = now_ms
                if replicas == 0:
                    return max(self._bounds.low, 1)
            elif self._bounds.low == 0 and now_ms > self._active_ms + self._setting.cooldown_ms:
                self._recommended.clear()
                return 0
        return self._by_hpa(now_ms, self._lag, replicas) if replicas else 0

    def _by_hpa(self, now_ms: float, lag: int, replicas: int) -> int:
        lag = min(lag, ceil(self._bounds.high * self._threshold))
        if not self._recommended:
            self._recommended.append((now_ms, replicas))  # recordInitialRecommendation
        self._recommended.append((now_ms, of_total(lag, self._threshold, replicas)))
        while self._recommended[0][0] < now_ms - self._setting.stabilisation_ms:
            self._recommended.popleft()
        stable = max(count for _, count in self._recommended)
        return max(1, self._bounds.clip(min(stable, max(2 * replicas, 4))))
