"""NVIDIA Dynamo's planner, the new one, over engines that do prompts and answers alike.

Rules as in ai-dynamo/dynamo, components/src/dynamo/planner/core/{load,throughput}_scaling.py and
config/planner_config.py. As it comes, its target is `throughput`: each 5 s one replica more or
fewer, by how full the KV caches are; no objective counts, and the slow loop is off. With the target
`sla` a loop of 180 s foresees the rate, and what that takes is the least that the loop of 5 s may
choose, which goes by the times that it estimates. Nothing moves while a move is under way.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from bench.policies.autoscaler import Case, Sample
from bench.policies.dynamo_load import LoadLoop
from bench.policies.local_trend import LocalTrend

STEP_MOST = 8  # replicas a tick
ARIMA_LEAST = 5  # intervals seen; with fewer, it foresees the last value
MINUTE_MS = 60_000.0


class DynamoSetting(NamedTuple):
    """What an operator sets."""

    target: Literal["throughput", "latency", "sla"] = "throughput"
    load_loop: bool = True  # with `sla`; without it the slow loop decides alone
    predictor: Literal["arima", "kalman"] = "arima"
    sensitivity: float = 0.8  # how much of an objective may be used after one replica has gone
    sla_share: float = 1.0  # of the objectives: what the planner is told
    throughput_every_ms: float = 180_000.0


_SHARES, _SENSES = (1.0, 0.8, 0.65, 0.5), (0.8, 0.5, 0.3)


class Dynamo:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, DynamoSetting]] = MappingProxyType(
        {"default": DynamoSetting(), "sla": DynamoSetting("sla")}
    )
    tried: ClassVar[Sequence[DynamoSetting]] = (
        *(DynamoSetting(), DynamoSetting("latency")),
        *(DynamoSetting("sla", True, "arima", s, x) for s in _SENSES[:2] for x in _SHARES),
        *(DynamoSetting("sla", True, "kalman", s, x, MINUTE_MS) for s in _SENSES for x in _SHARES),
        *(DynamoSetting("sla", False, "kalman", 0.8, x, MINUTE_MS) for x in _SHARES),
    )

    scrape_every_ms = 5_000.0
    scrape_at_ms = 4_900.0
    delay_ms = 100.0  # engines publish each pass
    decide_every_ms = 5_000.0

    def __init__(self, case: Case, setting: DynamoSetting = DynamoSetting()) -> None:  # noqa: B008 - immutable
        self._bounds, self._setting = case.bounds, setting
        self._load = LoadLoop(case, setting.sla_share, setting.sensitivity)
        self._rates = LocalTrend()
        minutes = int(setting.throughput_every_ms / MINUTE_MS)
        for begin in range(0, len(case.past_rps), minutes):  # its warm-up from a trace
            self._rates.add(float(case.past_rps[begin : begin + minutes].mean()))
        self._seen: Sample | None = None
        self._counted = (0.0, 0)  # when the slow loop looked last, and arrivals until then
        self._floor = 0  # of replicas; 0: not yet set

    def see(self, sample: Sample) -> None:
        """Keep the newest sample."""
        self._seen = sample
        self._load.see(sample)

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; while some load, as many as there are."""
        if self._seen is None:
            return replicas
        sla = self._setting.target == "sla"
        # Until the slow loop has looked for the first time, what is found is the least.
        self._floor = self._floor or (replicas if sla else 1)
        slow = sla and now_ms % self._setting.throughput_every_ms == 0
        if slow:
            self._foresee(self._seen)
        if replicas != ready or len(self._seen.engines) != ready or not replicas:
            return max(replicas, self._bounds.low, 1)
        if sla and not self._setting.load_loop:
            wanted = self._floor if slow else replicas
        else:
            step = self._load.by_times() if sla else self._load.by_fill(self._setting.target)
            wanted = max(replicas + step, self._floor)
        wanted = min(max(wanted, replicas - STEP_MOST), replicas + STEP_MOST)
        return max(1, self._bounds.clip(wanted))

    def _foresee(self, seen: Sample) -> None:
        """Set the floor: the rate foreseen over what one engine carries."""
        since_ms, arrivals = self._counted
        self._counted = (seen.at_ms, seen.arrivals)
        self._rates.add(1000 * (seen.arrivals - arrivals) / (seen.at_ms - since_ms))
        trusted = self._setting.predictor == "kalman" or self._rates.count >= ARIMA_LEAST
        rate_rps = self._rates.next() if trusted else self._rates.last
        self._floor = max(1, ceil(rate_rps / self._load.engine_rps() - 1e-9))
