"""How many replicas WVA wants by tokens: what is asked for, against what fits.

From llm-d-incubation/workload-variant-autoscaler, internal/engines/analyzers/saturation_v2/
analyzer.go: a replica holds what its KV cache may be filled to, or fewer: what it held when
requests waited for it, else what the limits of its engine give for the mean lengths.
"""

from collections import deque
from math import ceil, floor
from statistics import fmean, median
from typing import NamedTuple

from bench.policies.autoscaler import Case, Sample

BATCHED_TOKENS_MAX = 8192  # of an engine's step, its default
OBSERVED = 10  # of what it held under a queue the mean is used


class Thresholds(NamedTuple):
    """What an operator sets."""

    up_above: float = 0.85  # of the tokens that the replicas hold, those that load included
    down_below: float = 0.7
    kv_share: float = 0.8  # to which a cache may be filled
    queue_least: float = 5.0  # waiting at an engine, from which on it counts as full


class Saturation:
    """The rule for one model."""

    def __init__(self, case: Case, thresholds: Thresholds) -> None:
        self._case, self._thresholds = case, thresholds
        self._observed: deque[float] = deque(maxlen=OBSERVED)

    def wanted(self, sample: Sample, replicas: int, prompt: float, output: float) -> int:
        """Return the number of replicas for requests of these mean lengths, in tokens."""
        demand, capacity = self._tokens(sample, prompt, output)
        required = demand / self._thresholds.up_above - max(replicas, sample.ready) * capacity
        if required > 0:
            return replicas + ceil(required / capacity - 1e-9)
        spare = sample.ready * capacity - demand / self._thresholds.down_below
        return max(replicas - max(0, floor(spare / capacity + 1e-9)), self._case.bounds.low)

    def _tokens(self, sample: Sample, prompt: float, output: float) -> tuple[float, float]:
        """Return the tokens asked for, and what a replica holds; of a batch model, requests."""
        spec, thresholds = self._case.spec, self._thresholds
        if spec.kind == "batch":
            held = float(sample.queue + sample.in_flight)
            return held, thresholds.kv_share * self._case.full.batch
        answers = min(BATCHED_TOKENS_MAX * output / (prompt + output), spec.batch_max)
        derived = answers * (prompt + output / 2)
        most, used, capacities = thresholds.kv_share * spec.kv_tokens, 0.0, []
        for engine in sample.engines:
            tokens = engine.kv_share * spec.kv_tokens
            used += tokens
            if engine.waiting >= thresholds.queue_least and tokens > 0:
                self._observed.append(tokens)
                capacities.append(min(most, tokens))
            else:
                known = fmean(self._observed) if self._observed else derived
                capacities.append(min(most, known))
        waiting = sample.queue * (prompt + output)
        return used + waiting, median(capacities) if capacities else min(most, derived)
