"""An LLM's equivalent law of a batch: what it says of rates, against the oracle's bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.oracle import LlmType, Work, llm_bound
from libs.common.messages import ITERATION_SHARE, ModelSpec
from services.scheduler.core.batches import full_batch, service_ms
from services.scheduler.core.continuous import Engine, equivalent
from tests.scheduler.fleets import GB, Fleet

# Llama 3 8B on one H100.
LAW = {
    "base_ms": 7.799,
    "prefill_token_ms": 0.02011,
    "decode_seq_ms": 0.04851,
    "kv_token_ms": 5.858e-05,
}


def an_llm(**changes: object) -> ModelSpec:
    fields: dict[str, object] = {
        "name": "chat",
        "kind": "llm",
        "objective": {"ttft_ms": 1000, "tpot_ms": 25},
        "weights_bytes": 16 * GB,
        "activation_bytes": 2 * GB,
        "kv_bytes_per_token": 131_072,
        "kv_tokens": 160_000,
        "batch_max": 256,
        "law": {"h100": LAW},
    }
    return ModelSpec.model_validate({**fields, **changes})


@given(
    st.integers(1, 8000), st.integers(1, 2000), st.floats(10, 200), st.integers(10_000, 1_000_000)
)
def test_no_replica_is_thought_faster_than_the_proven_bound(
    prompt: int, output: int, tpot_ms: float, kv_tokens: int
) -> None:
    alpha, beta, answer = equivalent(Engine(**LAW), prompt, output, tpot_ms, kv_tokens)
    batch = max((answer - alpha) / beta, 1e-9)
    rate_per_ms = batch / service_ms(alpha, beta, batch)
    reads = (output - 1) * prompt + (output - 1) * output // 2
    work = Work(*(np.array([n], np.int64) for n in (prompt, output - 1, reads)))
    limit_ms = ITERATION_SHARE * tpot_ms
    bound_ms = llm_bound(work, [LlmType(**LAW)], limit_ms).gpu_s * 1e3
    assert rate_per_ms <= 1 / bound_ms * (1 + 1e-9)


def test_where_the_cache_is_large_the_rate_is_that_of_full_iterations() -> None:
    alpha, beta, answer = equivalent(Engine(**LAW), 1155, 211, 25, 10_000_000)
    batch = (answer - alpha) / beta
    full_ms = 23.75
    assert answer == pytest.approx(211 * full_ms)
    assert batch / answer == pytest.approx((1 - LAW["base_ms"] / full_ms) / beta)


def test_a_small_cache_bounds_what_runs() -> None:
    alpha, beta, answer = equivalent(Engine(**LAW), 1000, 200, 25, 12_000)
    assert full_batch(alpha, beta, np.nan, answer) == 10


def test_the_core_places_an_llm_with_its_cache_and_grants_all_it_may_run() -> None:
    fleet = Fleet(an_llm(), nodes=2, gpus=4, load_ticks=1)
    fleet.offer("chat", 40.0, prompt_tokens_mean=1155.0, output_tokens_mean=211.0)
    for _ in range(40):
        fleet.offer("chat", 40.0, prompt_tokens_mean=1155.0, output_tokens_mean=211.0)
        decision = fleet.step()
    # 13.3 requests/s each when full, 9.3 at 70 %: five.
    assert len(decision.state.replicas) == 5
    assert set(decision.state.batch_size.tolist()) == {256}
    assert (decision.state.wait_ms == 0).all()
