"""What an operator who sizes a model by hand knows of a replica: what it holds when it is full.

From the same formulas as our own loop plans with, so that no peer gets worse figures than we do.
"""

import math
from typing import NamedTuple

from libs.common.messages import BatchLaw, ModelSpec
from services.load.core.arrivals import Arrivals
from services.scheduler.core.batches import capacity_rps, full_batch
from services.scheduler.core.continuous import Engine, equivalent


class Full(NamedTuple):
    """One replica at its limit, on the device type where the model has its fastest law."""

    rate_rps: float
    batch: int  # the largest of which two in a row meet the objective; of an LLM: answers at once
    alpha_ms: float  # s(b) = alpha + beta x b, or of an LLM what stands for it
    beta_ms: float
    continuous: bool  # an LLM

    def held_at(self, util: float) -> float:
        """Return how many requests it holds, in the mean, at this part of its highest rate; >= 1.

        What a load test of one replica would show, and so the target that an operator would set:
        at 80 % of its rate an LLM runs far fewer than 80 % of the answers that fill it. The batch
        that carries the rate is b = rate x alpha / (1 - rate x beta); of a batch model half a batch
        waits beside the one that runs.
        """
        per_ms = util * self.rate_rps / 1000
        running = min(per_ms * self.alpha_ms / (1 - per_ms * self.beta_ms), self.batch)
        return max(1.0, running if self.continuous else 1.5 * running)


def full_replica(spec: ModelSpec, arrivals: Arrivals) -> Full:
    """Return it for the mean lengths of `arrivals`, as past load would have told the operator."""
    best = Full(0.0, 1, 0.0, 0.0, spec.kind == "llm")
    for law in spec.law.values():
        if isinstance(law, BatchLaw):
            alpha, beta, answer = law.alpha_ms, law.beta_ms, math.nan
        else:
            means = [
                float(tokens.mean()) if len(tokens) else 1.0
                for tokens in (arrivals.prompt_tokens, arrivals.output_tokens)
            ]
            engine = Engine(*(float(getattr(law, field)) for field in Engine._fields))
            prompt, output = means
            tpot_ms, kv_tokens = spec.objective.tpot_ms, float(spec.kv_tokens)
            alpha, beta, answer = equivalent(engine, prompt, output, tpot_ms, kv_tokens)
        fitting = full_batch(alpha, beta, spec.objective.latency_ms, answer)
        batch = min(fitting, spec.batch_max)
        rate = capacity_rps(alpha, beta, batch)
        if rate > best.rate_rps:
            best = Full(rate, batch, alpha, beta, spec.kind == "llm")
    return best
