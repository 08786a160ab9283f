"""How much one replica may take, by WVA's queueing model: a queue with rates by its length.

From llm-d-incubation/workload-variant-autoscaler, pkg/analyzer/queueanalyzer.go: n requests side by
side are served at n / (first token + (O - 1) x later ones), both straight in n; beyond the largest
batch they wait, ten times it at most. The chain of births and deaths is solved for a rate, and the
largest rate is sought at which both means are within their targets.
"""

from typing import NamedTuple

import numpy as np

from bench.policies.autoscaler import Case, Floats
from libs.common.messages import StepLaw

QUEUE_TO_BATCH = 10
EPSILON = 1e-3  # of the highest rate, left out at both ends
STEPS = 40  # of the bisection


class Server(NamedTuple):
    """One replica: times with n requests side by side."""

    first_ms: float  # to the first token with none beside it, ...
    first_each_ms: float  # ... and more for each request
    later_ms: float  # of a later token
    later_each_ms: float
    later_tokens: float  # of a request
    batch_max: int

    def service_ms(self, n: Floats | float) -> Floats | float:
        """Return how long a request takes with n side by side."""
        first = self.first_ms + self.first_each_ms * n
        return first + self.later_tokens * (self.later_ms + self.later_each_ms * n)


def server_of(case: Case, prompt_tokens: float, output_tokens: float) -> Server:
    """Return it as load tests with one and with many requests would have shown.

    Of an engine an iteration lasts base + n x (decode + KV read + its part of a prompt), and the
    first token takes one with the own prompt in it. A batch model has no later tokens.
    """
    laws = [law for law in case.spec.law.values() if isinstance(law, StepLaw)]
    if not laws:
        return Server(case.full.alpha_ms, case.full.beta_ms, 0.0, 0.0, 0.0, case.full.batch)
    law = min(laws, key=lambda law: law.base_ms)  # of the fastest device
    read = law.kv_token_ms * (prompt_tokens + output_tokens / 2)
    prompts = law.prefill_token_ms * prompt_tokens
    each = law.decode_seq_ms + read + prompts / max(1.0, output_tokens)
    later = max(0.0, output_tokens - 1)
    return Server(law.base_ms + prompts, each, law.base_ms, each, later, case.spec.batch_max)


def largest_rate_rps(server: Server, first_ms: float, later_ms: float | None) -> float | None:
    """Return the largest rate at which the mean first token and later ones are within targets.

    None where even a lone request is not.
    """
    n = np.arange(1, server.batch_max + 1, dtype=np.float64)
    rates = n / server.service_ms(n)
    low, high = rates[0] * EPSILON, rates[-1] * (1 - EPSILON)

    def within(rate: float) -> bool:
        first, later = means_ms(server, rates, rate)
        return first <= first_ms and (later_ms is None or later <= later_ms)

    if not within(low):
        return None
    if within(high):
        return 1000 * float(high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return 1000 * float(low)


def means_ms(server: Server, rates: Floats, rate: float) -> tuple[float, float]:
    """Return the mean time to the first token and of a later one; rates are per ms."""
    every = np.concatenate([rates, np.full(QUEUE_TO_BATCH * server.batch_max, rates[-1])])
    logs = np.concatenate([[0.0], np.cumsum(np.log(rate / every))])
    weight = np.exp(logs - logs.max())
    p = weight / weight.sum()
    held = np.arange(len(p))
    throughput = rate * (1 - p[-1])
    served = float(np.minimum(held, server.batch_max) @ p)
    wait = float(held @ p - served) / throughput
    # As many side by side as make the mean service last as long as it does.
    alone, both = float(server.service_ms(0.0)), float(server.service_ms(1.0))
    beside = (served / throughput - alone) / max(both - alone, 1e-9)
    beside = min(max(beside, 0.0), server.batch_max)
    first = wait + server.first_ms + server.first_each_ms * beside
    return first, server.later_ms + server.later_each_ms * beside
