"""A model whose figures are easy to reckon with, for the rules of autoscalers."""

import numpy as np

from bench.full import Full
from bench.policies.autoscaler import Bounds, Case, Floats
from libs.common.messages import ModelSpec, Objective, StepLaw

# Holds 10 requests at its highest rate: 10 requests/s of 1 s each.
FULL = Full(rate_rps=10.0, batch=10, alpha_ms=1000.0, beta_ms=0.0, continuous=True)
SPEC = ModelSpec(
    name="m",
    kind="llm",
    objective=Objective(ttft_ms=1000, tpot_ms=20),
    weights_bytes=10**9,
    kv_bytes_per_token=1000,
    kv_tokens=100_000,
    batch_max=100,
    law={"gpu": StepLaw(base_ms=10, prefill_token_ms=0.1, decode_seq_ms=0.1, kv_token_ms=0.0001)},
)


def a_case(low: int = 1, high: int = 50, past_rps: Floats | None = None) -> Case:
    """An LLM with between `low` and `high` replicas."""
    return Case(SPEC, FULL, Bounds(low, high), np.zeros(0) if past_rps is None else past_rps)
