"""llm-d's workload variant autoscaler (WVA): by a queueing model, or by saturation.

Rules as in llm-d-incubation/workload-variant-autoscaler. `queue`: pkg/analyzer/queueanalyzer.go
(`queueing.py`) and internal/collector: each 60 s the rate of a minute, divided by the most that one
replica may take. As coded that rate is of requests *served*, which cannot exceed what is there.
`saturation`: by tokens instead (`saturation.py`). An HPA with a target of 1 follows either.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil, log
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from bench.policies.autoscaler import Case, Sample
from bench.policies.hpa import Behavior, Pace, of_total
from bench.policies.queueing import largest_rate_rps, server_of
from bench.policies.saturation import Saturation, Thresholds
from libs.common.messages import ITERATION_SHARE

EVERY_MS = 60_000.0
RATE_MS = 60_000.0  # of rate(..[1m])

RateOf = Literal["served", "arrivals"]
RATES: tuple[RateOf, ...] = ("served", "arrivals")


class WvaSetting(NamedTuple):
    """What an operator sets."""

    rate_of: RateOf = "served"  # as coded, and as meant
    slo_percentile: float = 0.95  # of an exponential wait, to be within the objective
    # The mean time per token that is asked for, of the objective; engines here fill up to 0.9.
    tpot_share: float = ITERATION_SHARE
    saturation: Thresholds | None = None  # instead of the queueing model
    behavior: Behavior | None = None  # of the HPA that follows


class Wva:
    """The rule for one model."""

    variants: ClassVar[Mapping[str, WvaSetting]] = MappingProxyType(
        {
            "default": WvaSetting(),
            "arrivals": WvaSetting(rate_of="arrivals"),
            "saturation": WvaSetting(saturation=Thresholds()),
        }
    )
    tried: ClassVar[Sequence[WvaSetting]] = (
        *(
            WvaSetting(rate, percentile, share)
            for rate, percentile, share in product(RATES, (0.9, 0.95), (0.9, 0.75, 0.6))
        ),
        *(
            WvaSetting(saturation=Thresholds(up, up - 0.15, share))
            for up, share in product((0.85, 0.7, 0.55, 0.4), (0.8, 0.6, 0.4))
        ),
    )

    scrape_every_ms = 15_000.0
    scrape_at_ms = 13_000.0
    delay_ms = 1_000.0  # it asks Prometheus itself
    decide_every_ms = 15_000.0  # the HPA's sync; its own loop is slower

    def __init__(self, case: Case, setting: WvaSetting = WvaSetting()) -> None:  # noqa: B008 - immutable
        self._case, self._setting = case, setting
        self._pace = Pace(case.bounds, setting.behavior)
        self._seen: deque[Sample] = deque()
        thresholds = setting.saturation
        self._saturation = None if thresholds is None else Saturation(case, thresholds)
        self._lengths = (1.0, 1.0)
        self._wanted: int | None = None
        self._due_ms = 0.0

    def see(self, sample: Sample) -> None:
        """Keep the samples of a minute, and the mean lengths of what was served in it."""
        self._seen.append(sample)
        while self._seen[0].at_ms < sample.at_ms - RATE_MS:
            self._seen.popleft()
        oldest = self._seen[0]
        ended = sample.ended - oldest.ended
        if ended > 0:
            prompts = sample.prompt_tokens - oldest.prompt_tokens
            self._lengths = (prompts / ended, (sample.output_tokens - oldest.output_tokens) / ended)

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        """Return the number of replicas wanted; until it has seen a rate, as many as there are."""
        if len(self._seen) < 2:
            return replicas
        if self._wanted is None or now_ms >= self._due_ms:
            by_tokens, newest = self._saturation, self._seen[-1]
            self._wanted = (
                by_tokens.wanted(newest, replicas, *self._lengths)
                if by_tokens
                else self._by_queue(replicas)
            )
            self._due_ms = now_ms + EVERY_MS
        return self._pace.next(now_ms, replicas, of_total(self._wanted, 1.0, replicas))

    def _by_queue(self, replicas: int) -> int:
        oldest, newest = self._seen[0], self._seen[-1]
        field = "ended" if self._setting.rate_of == "served" else "arrivals"
        came = getattr(newest, field) - getattr(oldest, field)
        if came == 0:
            return self._case.bounds.low
        rate_rps = 1000 * came / (newest.at_ms - oldest.at_ms)
        server = server_of(self._case, *self._lengths)
        most_rps = largest_rate_rps(server, *self._targets_ms())
        return replicas if most_rps is None else ceil(rate_rps / most_rps - 1e-9)

    def _targets_ms(self) -> tuple[float, float | None]:
        objective = self._case.spec.objective
        margin = -log(1 - self._setting.slo_percentile)
        first_ms = (objective.ttft_ms or objective.latency_ms) / margin
        tpot_ms = objective.tpot_ms
        return first_ms, None if tpot_ms is None else self._setting.tpot_share * tpot_ms
