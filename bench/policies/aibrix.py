"""AIBrix' APA: the mean of a metric of the pods over 180 s against its target.

Rules as in vllm-project/aibrix, pkg/controller/podautoscaler/{algorithm/apa,autoscaler}.go and
podautoscaler_controller.go: reconciled each 10 s, tolerance 0.1, at most twice and at least half as
many at a time. Its cooldown takes the smallest wish of 300 s before it shrinks, where HPA takes the
largest, and so damps nothing. `default` does as coded; `mended` takes the largest.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil, floor
from statistics import fmean
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Case, Sample

TOLERANCE, MAX_UP, MAX_DOWN = 0.1, 2.0, 2.0


class AibrixSetting(NamedTuple):
    """What an operator sets. There is no default target: it is as HPA's, from a load test."""

    util_target: float = 0.8  # what a replica holds at this part of its highest rate
    kv_target: float | None = None  # of an LLM, instead: the part of its KV cache that is taken
    mended: bool = False
    window_ms: float = 180_000.0
    cooldown_down_ms: float = 300_000.0


_MENDED, _QUICK = AibrixSetting(mended=True), AibrixSetting(mended=True, window_ms=30_000.0)
_AT_ONCE = AibrixSetting(window_ms=60_000.0, cooldown_down_ms=0.0)
_RULES = (AibrixSetting(), _AT_ONCE, _MENDED, _QUICK)


class Aibrix:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, AibrixSetting]] = MappingProxyType(
        {"default": AibrixSetting(), "mended": _MENDED}
    )
    tried: ClassVar[Sequence[AibrixSetting]] = (
        *(rule._replace(util_target=u) for rule in _RULES for u in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        *(_QUICK._replace(kv_target=kv) for kv in (0.1, 0.2, 0.3, 0.4, 0.5)),
    )

    scrape_every_ms = 10_000.0
    scrape_at_ms = 10_000.0
    delay_ms = 0.0  # the pods are asked when reconciling
    decide_every_ms = 10_000.0

    def __init__(self, case: Case, setting: AibrixSetting = AibrixSetting()) -> None:  # noqa: B008 - immutable
        self._kv_target = setting.kv_target if case.spec.kind == "llm" else None
        self._target = self._kv_target or case.full.held_at(setting.util_target)
        self._setting, self._bounds = setting, case.bounds
        self._seen: deque[tuple[float, float]] = deque()
        self._wished: deque[tuple[float, int]] = deque()

    def see(self, sample: Sample) -> None:
        """Keep the mean over the pods that answer; none answers, nothing is kept."""
        if sample.ready:
            taken = sum(engine.kv_share for engine in sample.engines)
            total = taken if self._kv_target else sample.queue + sample.in_flight
            self._seen.append((sample.at_ms, total / sample.ready))

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric or a replica, what there is."""
        while self._seen and self._seen[0][0] <= now_ms - self._setting.window_ms:
            self._seen.popleft()
        if not self._seen or replicas == 0:
            return replicas
        ratio = fmean(value for _, value in self._seen) / self._target
        wish = _guarded(_apa(ratio, replicas), ratio, replicas, ready)
        return max(1, self._bounds.clip(self._cooled(now_ms, wish, replicas)))  # to zero is off

    def _cooled(self, now_ms: float, wish: int, replicas: int) -> int:
        """Return the wish after the cooldown; that of growing is 0 s, the newest wish alone."""
        mended, begin_ms = self._setting.mended, now_ms - self._setting.cooldown_down_ms
        if mended and not self._wished:
            self._wished.append((now_ms, replicas))  # as HPA, what is found counts as wished
        self._wished.append((now_ms, wish))
        while self._wished[0][0] <= begin_ms and len(self._wished) > 1:
            self._wished.popleft()
        wishes = [count for _, count in self._wished]
        fewer = min(replicas, max(wishes)) if mended else min(wishes)
        return fewer if wish < replicas else wish


def _apa(ratio: float, replicas: int) -> int:
    wish = ceil(replicas * ratio - 1e-9)
    if ratio > 1 + TOLERANCE:
        return min(wish, ceil(MAX_UP * replicas))
    return max(wish, floor(replicas / MAX_DOWN)) if ratio < 1 - TOLERANCE else replicas


def _guarded(wish: int, ratio: float, replicas: int, ready: int) -> int:
    """Return the wish as pods that are pending change it: idle if it grows, else at the target."""
    if wish > replicas:
        return min(wish, max(replicas, ceil(ratio * ready - 1e-9)))
    return max(wish, min(replicas, ceil(ratio * ready + replicas - ready - 1e-9)))
