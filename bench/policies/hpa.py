"""Kubernetes' HorizontalPodAutoscaler, on concurrency and on queue; the larger answer counts.

Rules as in kubernetes, pkg/controller/podautoscaler/horizontal.go and replica_calculator.go, and
the defaults of config/v1alpha1/defaults.go: a sync each 15 s, tolerance 0.1, a window of 300 s
before fewer are taken, at most twice as many (or 4) at a time. No `behavior` is set.

Metrics are scraped each 15 s, and what a sync sees is 20 s old, so that a change is answered after
20 to 35 s, 27.5 s in the mean, as was measured (kubernetes issue 110317).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Case, Sample

TOLERANCE = 0.1
STABILISATION_MS = 300_000.0


class HpaSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.8  # of a replica's highest rate; the target of the default metric, CPU


class Hpa:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, HpaSetting]] = MappingProxyType({"default": HpaSetting()})
    tried: ClassVar[Sequence[HpaSetting]] = tuple(
        HpaSetting(util) for util in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    )

    scrape_every_ms = 15_000.0
    scrape_at_ms = 10_000.0
    delay_ms = 10_000.0
    decide_every_ms = 15_000.0

    def __init__(self, case: Case, setting: HpaSetting = HpaSetting()) -> None:  # noqa: B008 - immutable
        self._concurrency_target = case.full.held_at(setting.util_target)
        # As many may wait as may run; a concurrency metric alone would miss those not yet given
        # out.
        self._queue_target = self._concurrency_target
        self._bounds = case.bounds
        self._seen: Sample | None = None
        self._recommended: deque[tuple[float, int]] = deque()

    def see(self, sample: Sample) -> None:
        """Keep the newest sample."""
        self._seen = sample

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if self._seen is None:
            return replicas
        held = self._seen.queue + self._seen.in_flight
        by_metric = max(
            of_pods(held, self._concurrency_target, replicas, ready),
            of_total(self._seen.queue, self._queue_target, replicas),
        )
        if not self._recommended:
            self._recommended.append((now_ms, replicas))  # recordInitialRecommendation
        self._recommended.append((now_ms, by_metric))
        while self._recommended[0][0] < now_ms - STABILISATION_MS:
            self._recommended.popleft()
        stable = max(count for _, count in self._recommended)
        return self._bounds.clip(min(stable, max(2 * replicas, 4)))


def of_pods(total: float, target: float, replicas: int, ready: int) -> int:
    """Return the wanted number by a metric of the pods: `total` over those that are ready.

    Pods that still load count as using nothing when there is too much to do, and not at all when
    there is too little. From replica_calculator.go, calcPlainMetricReplicas.
    """
    if ready == 0:
        return replicas if replicas else ceil(total / target)
    ratio = total / ready / target
    if replicas == ready or ratio < 1:
        return replicas if _tolerable(ratio) else ceil(ratio * ready - 1e-9)
    damped = total / replicas / target
    if _tolerable(damped) or damped < 1:
        return replicas  # within tolerance, or the other direction
    wanted = ceil(damped * replicas - 1e-9)
    return max(wanted, replicas)


def of_total(value: float, target: float, replicas: int) -> int:
    """Return the wanted number by an external metric, `target` of it for each replica."""
    if replicas and _tolerable(value / (target * replicas)):
        return replicas
    return ceil(value / target - 1e-9)


def _tolerable(ratio: float) -> bool:
    return 1 - TOLERANCE <= ratio <= 1 + TOLERANCE
