"""Kubernetes' HorizontalPodAutoscaler, on concurrency and on queue; the larger answer counts.

Rules as in kubernetes, pkg/controller/podautoscaler/horizontal.go and replica_calculator.go, and
the defaults of config/v1alpha1/defaults.go and apis/autoscaling/v2/defaults.go: a sync each 15 s,
tolerance 0.1, a window of 300 s before fewer are taken, at most twice as many (or 4) at a time.

Metrics are scraped each 15 s, and what a sync sees is 20 s old, so that a change is answered after
20 to 35 s, 27.5 s in the mean, as was measured (kubernetes issue 110317).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Bounds, Case, Sample

TOLERANCE = 0.1
STABILISATION_MS = 300_000.0


class Behavior(NamedTuple):
    """`spec.behavior`; the defaults are those of a `behavior` that says nothing."""

    up_pods: int = 4  # of a period, or ...
    up_share: float = 1.0  # ... this part of what was there, whichever lets more come
    down_share: float = 1.0
    period_ms: float = 15_000.0
    up_window_ms: float = 0.0
    down_window_ms: float = 300_000.0


class HpaSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.8  # of a replica's highest rate; the target of the default metric, CPU
    behavior: Behavior | None = None


class Hpa:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, HpaSetting]] = MappingProxyType({"default": HpaSetting()})
    tried: ClassVar[Sequence[HpaSetting]] = tuple(
        HpaSetting(util, behavior)
        for behavior, util in product(
            (
                None,
                Behavior(down_window_ms=60_000.0),
                Behavior(down_window_ms=600_000.0),
                Behavior(up_pods=16, down_share=0.1, period_ms=60_000.0),
            ),
            (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        )
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
        self._pace = Pace(case.bounds, setting.behavior)
        self._seen: Sample | None = None

    def see(self, sample: Sample) -> None:
        """Keep the newest sample."""
        self._seen = sample

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if self._seen is None:
            return replicas
        return self._pace.next(now_ms, replicas, self._by_metric(now_ms, replicas, ready))

    def _by_metric(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return what the metrics ask for, before windows and steps. There is a sample."""
        seen = self._seen
        assert seen is not None
        held = seen.queue + seen.in_flight
        return max(
            of_pods(held, self._concurrency_target, replicas, ready, seen.ready),
            of_total(seen.queue, self._queue_target, replicas),
        )


class Pace:
    """How fast a recommendation is followed: windows of stabilisation, and steps."""

    def __init__(self, bounds: Bounds, behavior: Behavior | None) -> None:
        self._bounds = bounds
        self._behavior = behavior
        self._recommended: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()  # more, or fewer, within the last period

    def next(self, now_ms: float, replicas: int, recommended: int) -> int:
        """Return how many there shall be now, of which `recommended` are wanted."""
        if not self._recommended:
            # recordInitialRecommendation, a moment before the first.
            self._recommended.append((now_ms - 1, replicas))
        self._recommended.append((now_ms, recommended))
        if self._behavior is None:
            most = max(self._within(now_ms - STABILISATION_MS))
            return self._bounds.clip(min(most, max(2 * replicas, 4)))
        return self._behaved(now_ms, replicas, self._behavior)

    def _behaved(self, now_ms: float, replicas: int, behavior: Behavior) -> int:
        up = min(self._within(now_ms - behavior.up_window_ms))
        down = max(self._within(now_ms - behavior.down_window_ms))
        wanted = self._bounds.clip(min(max(replicas, up), down))
        while self._changes and self._changes[0][0] <= now_ms - behavior.period_ms:
            self._changes.popleft()
        begun = replicas - sum(change for _, change in self._changes)
        if wanted > replicas:
            by_share = ceil(begun * (1 + behavior.up_share) - 1e-9)
            wanted = min(wanted, max(replicas, begun + behavior.up_pods, by_share))
        elif wanted < replicas:
            wanted = max(wanted, min(replicas, int(begun * (1 - behavior.down_share) + 1e-9)))
        if wanted != replicas:
            self._changes.append((now_ms, wanted - replicas))
        return wanted

    def _within(self, since_ms: float) -> list[int]:
        longest_ms = STABILISATION_MS
        if self._behavior is not None:
            longest_ms = max(self._behavior.up_window_ms, self._behavior.down_window_ms)
        newest_ms = self._recommended[-1][0]
        while self._recommended[0][0] < newest_ms - longest_ms:
            self._recommended.popleft()
        return [n for at_ms, n in self._recommended if at_ms >= since_ms]


def of_pods(total: float, target: float, replicas: int, ready: int, seen: int) -> int:
    """Return the wanted number by a metric of the pods: `total` over the `seen` that had it.

    Pods that still load are unready: they count as using nothing when there is too much to do, and
    not at all when there is too little. Pods that became ready since the scrape lack the metric:
    they count as using nothing, or their target. From replica_calculator.go,
    calcPlainMetricReplicas. Without any pod that has the metric nothing moves by it.
    """
    measured = min(ready, seen)
    if measured == 0:
        return replicas
    ratio = total / seen / target
    missing = ready - measured
    unready = replicas - ready if ratio > 1 else 0
    if not missing and not unready:
        return replicas if _tolerable(ratio) else ceil(ratio * ready - 1e-9)
    counted = seen + missing + unready
    filled = total + (missing * target if ratio < 1 else 0)
    damped = filled / counted / target
    if _tolerable(damped) or (damped > 1) != (ratio > 1):
        return replicas  # within tolerance, or the other direction
    wanted = ceil(damped * counted - 1e-9)
    return replicas if (wanted > replicas) != (damped > 1) else wanted


def of_total(value: float, target: float, replicas: int) -> int:
    """Return the wanted number by an external metric, `target` of it for each replica."""
    if replicas and _tolerable(value / (target * replicas)):
        return replicas
    return ceil(value / target - 1e-9)


def _tolerable(ratio: float) -> bool:
    return 1 - TOLERANCE <= ratio <= 1 + TOLERANCE
