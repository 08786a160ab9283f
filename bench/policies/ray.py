"""Ray Serve's replica autoscaler, on ongoing requests.

Rules as in ray-project/ray, python/ray/serve/autoscaling_policy.py, config.py and
_private/autoscaling_state.py: a loop each 0.1 s; what is ongoing is recorded each 0.5 s, pushed
each 10 s, and averaged over 30 s; a wish in the same direction must hold for more than 30 s (up) or
600 s (down) of ticks, then the whole step is taken. Its default target is 2 requests a replica,
whatever the model; no replica count but the fleet's bounds it.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from bench.policies.autoscaler import Case, Sample

LOOP_MS = 100.0
PUSH_MS = 10_000.0


class RaySetting(NamedTuple):
    """What an operator sets; the names are Ray's."""

    target_ongoing: float = 2.0  # requests for each replica
    util_target: float | None = None  # instead: what it holds at this part of its highest rate
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    upscale_delay_ms: float = 30_000.0
    downscale_delay_ms: float = 600_000.0
    look_back_ms: float = 30_000.0


_QUICK = RaySetting(upscale_delay_ms=0.0, downscale_delay_ms=60_000.0, look_back_ms=10_000.0)


class Ray:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, RaySetting]] = MappingProxyType({"default": RaySetting()})
    tried: ClassVar[Sequence[RaySetting]] = (
        *(RaySetting(target) for target in (2.0, 5.0, 10.0, 20.0)),
        *(
            setting._replace(util_target=util)
            for setting in (RaySetting(), _QUICK, _QUICK._replace(downscale_delay_ms=300_000.0))
            for util in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
        ),
        *(_QUICK._replace(util_target=util, upscaling_factor=1.5) for util in (0.6, 0.8)),
    )

    scrape_every_ms = 500.0
    scrape_at_ms = 500.0
    delay_ms = 0.0  # a handle knows its own; what is late is the push
    decide_every_ms = LOOP_MS

    def __init__(self, case: Case, setting: RaySetting = RaySetting()) -> None:  # noqa: B008 - immutable
        util = setting.util_target
        self._target = setting.target_ongoing if util is None else case.full.held_at(util)
        self._setting, self._bounds = setting, case.bounds
        self._recorded: deque[tuple[float, int]] = deque()
        self._total: float | None = None  # as pushed last
        self._counter = 0  # of ticks in a row that wish for more, or below 0 for fewer

    def see(self, sample: Sample) -> None:
        """Record what is queued and runs; each 10 s push the mean."""
        self._recorded.append((sample.at_ms, sample.queue + sample.in_flight))
        while self._recorded[0][0] <= sample.at_ms - self._setting.look_back_ms:
            self._recorded.popleft()
        if sample.at_ms % PUSH_MS == 0:
            self._total = sum(count for _, count in self._recorded) / len(self._recorded)

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; without a metric, as many as there are."""
        if self._total is None:
            return replicas
        if ready == 0:  # nothing runs: no delay
            least = ceil(self._setting.upscaling_factor) if self._total > 0 else 0
            return max(least, replicas)
        return self._delayed(self._wanted(self._total / self._target, ready), replicas)

    def _wanted(self, desired: float, running: int) -> int:
        up, down = self._setting.upscaling_factor, self._setting.downscaling_factor
        factor = up if desired > running else down
        wanted = ceil(running + factor * (desired - running) - 1e-9)
        if ceil(desired - 1e-9) < running and wanted == running:
            wanted -= 1  # a factor must not hold it for ever
        return self._bounds.clip(wanted)

    def _delayed(self, wanted: int, target: int) -> int:
        """Return `wanted` once enough ticks in a row wished in its direction, else `target`."""
        if wanted == target:
            self._counter = 0
            return target
        step = 1 if wanted > target else -1
        self._counter = self._counter + step if self._counter * step > 0 else step
        up, down = self._setting.upscale_delay_ms, self._setting.downscale_delay_ms
        if abs(self._counter) <= int((up if step > 0 else down) / LOOP_MS):
            return target
        self._counter = 0
        return wanted if target == 1 else max(1, wanted)  # from 1 to 0 is a step of its own
