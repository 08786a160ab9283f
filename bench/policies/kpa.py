"""Knative's autoscaler (KPA), on concurrency, or on requests per second.

Rules as in knative, pkg/autoscaler/scaling/autoscaler.go and multiscaler.go, and for zero
pkg/reconciler/autoscaling/kpa/scaler.go, with the defaults of config/core/configmaps/
autoscaler.yaml: a tick each 2 s, means over a stable window of 60 s and a panic window of 6 s of
samples taken each second, panic from twice what is ready on, what a replica holds at 70 % of its
rate as the target, at most 1000 times as many and at least half as many at a time.

Burst capacity decides who buffers, not how many replicas there are. A model here always has its
route, so none is unreachable.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil, floor
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from bench.policies.autoscaler import Case, Sample

STABLE_MS = 60_000.0
PANIC_MS = 6_000.0
PANIC_THRESHOLD = 2.0
MAX_UP, MAX_DOWN = 1000.0, 2.0
GRACE_MS = 30_000.0  # scale-to-zero-grace-period

Metric = Literal["concurrency", "rps"]
# What is tried: each metric with scale-down delays.
DELAYS_MS: Mapping[Metric, tuple[float, ...]] = MappingProxyType(
    {"concurrency": (0.0, 120_000.0, 300_000.0), "rps": (0.0, 120_000.0)}
)


class KpaSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.7  # container-concurrency-target-percentage
    metric: Metric = "concurrency"
    activation_scale: int = 1  # when there is anything to do, so many at least
    scale_down_delay_ms: float = 0.0


class Kpa:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, KpaSetting]] = MappingProxyType({"default": KpaSetting()})
    tried: ClassVar[Sequence[KpaSetting]] = tuple(
        KpaSetting(util, metric, scale_down_delay_ms=delay_ms)
        for metric, delays_ms in DELAYS_MS.items()
        for delay_ms in delays_ms
        for util in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    )

    scrape_every_ms = 1_000.0
    scrape_at_ms = 1_000.0
    delay_ms = 500.0  # collected in the second that follows, in the mean in its middle
    decide_every_ms = 2_000.0

    def __init__(self, case: Case, setting: KpaSetting = KpaSetting()) -> None:  # noqa: B008 - immutable
        full, util = case.full, setting.util_target
        by_rate = setting.metric == "rps"
        self._target = util * full.rate_rps if by_rate else full.held_at(util)
        self._setting = setting
        self._bounds = case.bounds
        self._arrivals: Sample | None = None  # the sample before, whose arrivals are counted
        self._values: deque[tuple[float, float]] = deque()  # of the stable window
        self._panic_since_ms: float | None = None
        self._panic_most = 0
        self._begun = False
        self._active_since_ms = 0.0
        self._idle_since_ms: float | None = None
        self._wanted_late: deque[tuple[float, int]] = deque()  # of the scale-down delay

    def see(self, sample: Sample) -> None:
        """Keep what the metric was, for the stable window."""
        value = float(sample.queue + sample.in_flight)
        if self._setting.metric == "rps":
            before = self._arrivals or Sample(sample.at_ms - self.scrape_every_ms, 0, 0, 0, 0)
            value = 1000 * (sample.arrivals - before.arrivals) / (sample.at_ms - before.at_ms)
            self._arrivals = sample
        self._values.append((sample.at_ms, value))
        while self._values[0][0] <= sample.at_ms - STABLE_MS:
            self._values.popleft()

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if not self._values:
            return replicas
        newest_ms = self._values[-1][0]
        stable = self._mean(newest_ms - STABLE_MS)
        panic = self._mean(newest_ms - PANIC_MS)
        wanted = self._late(now_ms, self._wanted(now_ms, stable, panic, ready))
        return self._bounds.clip(max(wanted, self._least(now_ms, wanted)))

    def _wanted(self, now_ms: float, stable: float, panic: float, ready: int) -> int:
        if not self._begun and ready > 1:
            # A new autoscaler finds replicas: it begins in panic, and so keeps them at first.
            self._panic_since_ms, self._panic_most = now_ms, ready
        self._begun = True
        by_stable, by_panic = (ceil(mean / self._target - 1e-9) for mean in (stable, panic))
        desired_stable = self._stepped(by_stable, ready)
        desired_panic = self._stepped(by_panic, ready)
        if by_panic / max(1, ready) >= PANIC_THRESHOLD:
            self._panic_since_ms = now_ms
        elif self._panic_since_ms is not None and self._panic_since_ms + STABLE_MS < now_ms:
            self._panic_since_ms, self._panic_most = None, 0
        if self._panic_since_ms is None:
            return desired_stable
        # While in panic never fewer.
        self._panic_most = max(self._panic_most, desired_stable, desired_panic)
        return self._panic_most

    def _stepped(self, wanted: int, ready: int) -> int:
        most, least = ceil(MAX_UP * max(1, ready)), floor(max(1, ready) / MAX_DOWN)
        stepped = min(max(wanted, least), most)
        return max(stepped, self._setting.activation_scale) if wanted > 0 else stepped

    def _late(self, now_ms: float, wanted: int) -> int:
        """Return the most that was wanted within the delay, now included."""
        late = self._wanted_late
        late.append((now_ms, wanted))
        while late[0][0] < now_ms - self._setting.scale_down_delay_ms:
            late.popleft()
        return max(count for _, count in late)

    def _least(self, now_ms: float, wanted: int) -> int:
        """Return 1 as long as the last replica must stay: it was not there, or not idle, so long.

        A model that was active for a stable window turns idle when nothing is wanted; its last
        replica goes a grace period later, within which the activator takes over.
        """
        if wanted > 0:
            if self._idle_since_ms is not None:
                self._idle_since_ms, self._active_since_ms = None, now_ms
            return 0
        if self._idle_since_ms is None and now_ms - self._active_since_ms >= STABLE_MS:
            self._idle_since_ms = now_ms
        gone = self._idle_since_ms is not None and now_ms - self._idle_since_ms >= GRACE_MS
        return 0 if gone else 1

    def _mean(self, after_ms: float) -> float:
        values = [value for at_ms, value in self._values if at_ms > after_ms]
        return sum(values) / len(values) if values else 0.0
