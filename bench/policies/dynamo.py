"""NVIDIA Dynamo's planner, the new one, over engines that do prompts and answers alike.

Rules as in ai-dynamo/dynamo, components/src/dynamo/planner/core/load_scaling.py,
throughput_scaling.py and config/planner_config.py. As it comes, its target is `throughput`: each
5 s one replica more or fewer, by how full the KV caches are, and no look at an objective. With the
target `sla` a loop of 180 s foresees the rate, and sets the least that the loop of 5 s may choose;
that one goes by the times that `engine_times` estimates. Nothing moves while a move is under way.
"""

from collections.abc import Mapping, Sequence
from math import ceil, inf
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from bench.policies.autoscaler import Case, Engine, Sample
from bench.policies.engine_times import EngineTimes
from bench.policies.local_trend import LocalTrend

STEP_MOST = 8  # replicas a tick
ARIMA_LEAST = 5  # intervals seen; with fewer, it foresees the last value
KV_SHARES = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}  # one more above, one fewer below


class DynamoSetting(NamedTuple):
    """What an operator sets."""

    target: Literal["throughput", "latency", "sla"] = "throughput"
    load_loop: bool = True  # with `sla`; without it the slow loop decides alone
    predictor: Literal["arima", "kalman"] = "arima"
    sensitivity: float = 0.8  # how much of an objective may be used after one replica has gone
    sla_share: float = 1.0  # of the objectives: what the planner is told
    throughput_every_ms: float = 180_000.0


_SLA = DynamoSetting("sla")


class Dynamo:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, DynamoSetting]] = MappingProxyType(
        {"default": DynamoSetting(), "sla": _SLA}
    )
    tried: ClassVar[Sequence[DynamoSetting]] = (
        DynamoSetting(),
        DynamoSetting("latency"),
        *(
            _SLA._replace(sla_share=share, sensitivity=sensitivity, throughput_every_ms=every_ms)
            for every_ms in (180_000.0, 60_000.0)
            for sensitivity in (0.8, 0.5)
            for share in (1.0, 0.8, 0.65, 0.5)
        ),
        *(
            _SLA._replace(sla_share=share, throughput_every_ms=60_000.0, predictor="kalman")
            for share in (1.0, 0.8, 0.65, 0.5)
        ),
        *(_SLA._replace(load_loop=False, throughput_every_ms=ms) for ms in (180_000.0, 60_000.0)),
    )

    scrape_every_ms = 5_000.0
    scrape_at_ms = 4_900.0
    delay_ms = 100.0  # engines publish each pass
    decide_every_ms = 5_000.0

    def __init__(self, case: Case, setting: DynamoSetting = DynamoSetting()) -> None:  # noqa: B008 - immutable
        self._case, self._setting = case, setting
        self._times = EngineTimes(case.spec, case.full)
        self._rates = LocalTrend()
        minutes = int(setting.throughput_every_ms / 60_000)
        for begin in range(0, len(case.past_rps), minutes):  # its warm-up from a trace
            self._rates.add(float(case.past_rps[begin : begin + minutes].mean()))
        self._seen: Sample | None = None
        self._counted = (0.0, 0)  # when the slow loop looked last, and arrivals until then
        self._floor = 1

    def see(self, sample: Sample) -> None:
        """Keep the newest sample."""
        self._seen = sample
        self._times.see(sample)

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; while some load, as many as there are."""
        if self._seen is None:
            return replicas
        sla = self._setting.target == "sla"
        slow = sla and now_ms % self._setting.throughput_every_ms == 0
        if slow:
            self._foresee(self._seen)
        if replicas != ready or len(self._seen.engines) != ready or not replicas:
            return max(replicas, self._case.bounds.low, 1)
        if sla and not self._setting.load_loop:
            wanted = self._floor if slow else replicas
        else:
            step = (self._by_times if sla else self._by_fill)(self._seen.engines)
            wanted = max(replicas + step, self._floor)
        wanted = min(max(wanted, replicas - STEP_MOST), replicas + STEP_MOST)
        return max(1, self._case.bounds.clip(wanted))

    def _foresee(self, seen: Sample) -> None:
        """Set the floor: the rate foreseen over what one engine carries."""
        since_ms, arrivals = self._counted
        self._counted = (seen.at_ms, seen.arrivals)
        self._rates.add(1000 * (seen.arrivals - arrivals) / (seen.at_ms - since_ms))
        trusted = self._setting.predictor == "kalman" or self._rates.count >= ARIMA_LEAST
        rate_rps = self._rates.next() if trusted else self._rates.last
        self._floor = max(1, ceil(rate_rps / self._times.rate_rps(self._setting.sla_share) - 1e-9))

    def _by_fill(self, engines: Sequence[Engine]) -> int:
        """Return 1 if any engine is too full, -1 if all are empty enough."""
        above, below = KV_SHARES[self._setting.target]
        fills = [self._times.fill(engine) for engine in engines]
        if any(fill > above for fill in fills):
            return 1
        return -1 if len(fills) > 1 and all(fill < below for fill in fills) else 0

    def _by_times(self, engines: Sequence[Engine]) -> int:
        """Return 1 if all engines are too slow, -1 if one fewer would still do."""
        times, held = self._times, [self._times.held(engine) for engine in engines]
        objective, share = self._case.spec.objective, self._setting.sla_share
        first_ms = share * (objective.ttft_ms or objective.latency_ms)
        token_ms = share * objective.tpot_ms or inf
        slow = (
            [times.first_ms(h) > first_ms for h in held],
            [times.token_ms(h) > token_ms for h in held],
        )
        if any(map(all, slow)):
            return 1
        if len(held) == 1:
            return 0
        for after in (h.times(len(held) / (len(held) - 1)) for h in held):
            own_ms = times.first_ms(after.alone())
            queue_ms = times.first_ms(after) - own_ms
            if queue_ms >= (first_ms - own_ms) * self._setting.sensitivity:
                return 0
            if (
                not times.fits(after)
                or times.token_ms(after) >= token_ms * self._setting.sensitivity
            ):
                return 0
        return -1
