"""Knative's autoscaler (KPA), on concurrency.

Rules as in knative, pkg/autoscaler/scaling/autoscaler.go and multiscaler.go, with the defaults of
config/core/configmaps/autoscaler.yaml: a tick each 2 s, means over a stable window of 60 s and a
panic window of 6 s of samples taken each second, panic from twice what is ready on, what a replica
holds at 70 % of its rate as the target, at most 1000 times as many and at least half as many at a
time.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil, floor
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Case, Sample

STABLE_MS = 60_000.0
PANIC_MS = 6_000.0
PANIC_THRESHOLD = 2.0
MAX_UP, MAX_DOWN = 1000.0, 2.0


class KpaSetting(NamedTuple):
    """What an operator sets."""

    util_target: float = 0.7  # container-concurrency-target-percentage


class Kpa:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, KpaSetting]] = MappingProxyType({"default": KpaSetting()})
    tried: ClassVar[Sequence[KpaSetting]] = tuple(
        KpaSetting(util) for util in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    )

    scrape_every_ms = 1_000.0
    scrape_at_ms = 1_000.0
    delay_ms = 500.0  # collected in the second that follows, in the mean in its middle
    decide_every_ms = 2_000.0

    def __init__(self, case: Case, setting: KpaSetting = KpaSetting()) -> None:  # noqa: B008 - immutable
        self._target = case.full.held_at(setting.util_target)
        self._bounds = case.bounds
        self._samples: deque[Sample] = deque()
        self._panic_since_ms: float | None = None
        self._panic_most = 0
        self._begun = False
        self._active_ms = 0.0  # when there was last something to do

    def see(self, sample: Sample) -> None:
        """Keep the samples of the stable window."""
        self._samples.append(sample)
        while self._samples[0].at_ms <= sample.at_ms - STABLE_MS:
            self._samples.popleft()

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if not self._samples:
            return replicas
        newest_ms = self._samples[-1].at_ms
        stable = self._mean(newest_ms - STABLE_MS)
        panic = self._mean(newest_ms - PANIC_MS)
        wanted = self._wanted(now_ms, stable, panic, ready)
        if stable > 0:
            self._active_ms = now_ms
        if wanted == 0 and now_ms - self._active_ms < STABLE_MS:
            wanted = 1  # the last one stays until nothing has come for a stable window
        return self._bounds.clip(wanted)

    def _wanted(self, now_ms: float, stable: float, panic: float, ready: int) -> int:
        if not self._begun and ready > 1:
            # A new autoscaler finds replicas: it begins in panic, and so keeps them at first.
            self._panic_since_ms, self._panic_most = now_ms, ready
        self._begun = True
        ready_least = max(1, ready)
        most, least = ceil(MAX_UP * ready_least), floor(ready_least / MAX_DOWN)
        by_panic = ceil(panic / self._target - 1e-9)
        desired_stable = min(max(ceil(stable / self._target - 1e-9), least), most)
        desired_panic = min(max(by_panic, least), most)
        if by_panic / ready_least >= PANIC_THRESHOLD:
            self._panic_since_ms = now_ms
        elif self._panic_since_ms is not None and self._panic_since_ms + STABLE_MS < now_ms:
            self._panic_since_ms, self._panic_most = None, 0
        if self._panic_since_ms is None:
            return desired_stable
        # While in panic never fewer.
        self._panic_most = max(self._panic_most, desired_stable, desired_panic)
        return self._panic_most

    def _mean(self, after_ms: float) -> float:
        held = [s.queue + s.in_flight for s in self._samples if s.at_ms > after_ms]
        return sum(held) / len(held) if held else 0.0
