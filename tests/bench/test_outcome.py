"""The definitions on cases small enough to reckon by hand."""

from typing import Any

import numpy as np
import pytest

from bench.compare import estimate, lines, paired
from bench.outcome import (
    Ended,
    Used,
    attainment,
    oracle_row,
    percentile,
    row_of,
    useful_ms,
    with_regret,
)
from bench.run import SUMS
from libs.common.messages import ModelSpec

HOUR_MS = 3_600_000.0


def a_batch_model(name: str = "vision") -> ModelSpec:
    """s(b) = 20 + 10 b within 100 ms: the best batch is 8, with 12.5 ms a request."""
    return ModelSpec.model_validate(
        {
            "name": name,
            "objective": {"latency_ms": 100},
            "weights_bytes": 1,
            "batch_max": 32,
            "law": {"h100": {"alpha_ms": 20, "beta_ms": 10}},
        }
    )


def an_llm() -> ModelSpec:
    """An iteration takes 10 ms and more of 40 allowed: three quarters of it are work."""
    law = {"base_ms": 10, "prefill_token_ms": 0.1, "decode_seq_ms": 1, "kv_token_ms": 0.001}
    return ModelSpec.model_validate(
        {
            "name": "chat",
            "kind": "llm",
            "objective": {"ttft_ms": 500, "tpot_ms": 40},
            "weights_bytes": 1,
            "kv_bytes_per_token": 1,
            "kv_tokens": 1000,
            "law": {"h100": law},
        }
    )


def accounts(gpus: int, **hours: list[float]) -> np.ndarray[Any, Any]:
    table = np.zeros(gpus, [(name, np.float64) for name in SUMS])
    for name, values in hours.items():
        table[name] = values
    return table


def test_a_percentile_is_a_time_that_occurred_and_none_where_it_was_missed() -> None:
    times = np.array([30.0, 10.0, 20.0, np.inf])
    assert percentile(times, 0.5) == 20
    assert percentile(times, 0.75) == 30
    assert percentile(times, 0.99) is None
    assert percentile(np.zeros(0), 0.5) is None


def test_attainment_counts_all_that_came() -> None:
    model = np.array([0, 0, 0, 0, 2, 2])
    ok = np.array([True, True, True, False, True, False])
    assert attainment(model, ok, 3) == [0.75, None, 0.5]


def test_a_row_is_of_the_worst_model_and_sums_over_gpus() -> None:
    specs = [a_batch_model(), an_llm()]
    ended = Ended(
        np.array([0, 0, 1, 1]),
        np.array([True, False, True, True]),
        np.array([80.0, 120.0, 900.0, 800.0]),
        np.array([np.nan, np.nan, 100.0, 200.0]),
        np.array([np.nan, np.nan, 30.0, 20.0]),
        np.array([1.0, 1.0, 5.0, 7.0]),
    )
    table = accounts(
        2,
        serving_ms=[0.5 * HOUR_MS, 0.25 * HOUR_MS],
        training_ms=[0.25 * HOUR_MS, 0.5 * HOUR_MS],
        busy_serving_ms=[0.25 * HOUR_MS, 0.25 * HOUR_MS],
        busy_training_ms=[0.25 * HOUR_MS, 0.25 * HOUR_MS],
        standby_byte_ms=[40 * HOUR_MS, 0],
        steps=[10, 20],
    )
    used = Used(table, np.array([80.0, 80.0]), np.array([2.0, 4.0]))
    charge_ms = np.array([0.25, 0.5]) * HOUR_MS
    row = row_of(ended, used, specs, charge_ms, 0.5 * HOUR_MS, 3600)
    assert row["requests"] == 4
    assert row["slo_attainment"] == 0.5
    assert row["models"][1] == {
        "model": "chat",
        "requests": 2,
        "slo_attainment": 1.0,
        "gpu_hours_serving": 0.5,
    }
    assert row["latency_ms"] == {"p50": 80.0, "p99": 120.0}  # of batch models alone
    assert row["ttft_ms"] == {"p50": 100.0, "p99": 200.0}
    assert row["tpot_ms"] == {"p50": 20.0, "p99": 30.0}
    assert (row["gpu_hours_serving"], row["gpu_hours_training"]) == (0.75, 0.75)
    assert row["gpu_hours_total"] == 2
    assert row["cost_usd"] == 0.5 * 2 + 0.25 * 4
    assert row["goodput_per_gpu_hour"] == pytest.approx(13 / 0.75, abs=1e-6)
    assert row["goodput_per_usd"] == 6.5
    assert row["gpu_busy_share"] == 0.5
    assert row["useful_work_share"] == 0.5  # 0.5 h of serving, and training as it ran
    assert row["useful_serving_hours"] == 0.5
    assert row["standby_memory_share"] == 0.25
    assert row["training_steps"] == 30


def test_useful_work_is_what_it_takes_at_the_best_batch() -> None:
    fields = ("done_requests", "done_prefill_tokens", "done_decodes", "done_kv_reads")
    done = np.zeros((2, 1), [(name, np.float64) for name in fields])
    done[0, 0]["done_requests"] = 8
    for name, count in zip(fields[1:], (100, 20, 10_000), strict=True):
        done[1, 0][name] = count
    # 8 x 12.5 ms; and 10 + 20 + 10 ms of work in iterations of 40 ms, 30 of them work.
    assert useful_ms(done, [a_batch_model(), an_llm()], ["h100"]) == pytest.approx(100 + 40 / 0.75)


def a_row(policy: str, charge: float, attained: float, seed: int = 1, variant: str = "") -> Any:
    return {
        "policy": policy,
        "variant": variant or "default",
        "seed": seed,
        "slo_attainment": attained,
        "gpu_hours_serving": charge,
    }


def test_regret_is_charge_over_the_bound_and_none_below_99_percent() -> None:
    rows = with_regret(
        [
            a_row("oracle", 2.0, 1.0),
            a_row("clairvoyant", 2.5, 1.0),
            a_row("ours", 3.0, 0.995),
            a_row("hpa", 4.0, 0.98),
        ]
    )
    by = {row["policy"]: row for row in rows}
    assert by["ours"]["regret_vs_oracle"] == 0.5
    assert by["ours"]["regret_vs_clairvoyant"] == 0.2
    assert by["hpa"]["regret_vs_oracle"] is None
    assert by["oracle"]["regret_vs_oracle"] == 0


def test_rows_are_sorted_by_policy_variant_and_seed_with_sizes_as_numbers() -> None:
    rows = with_regret(
        [
            a_row("static", 1, 1, 2, "n=9"),
            a_row("static", 1, 1, 1, "n=12"),
            a_row("static", 1, 1, 1, "n=9"),
            a_row("hpa", 1, 1),
        ]
    )
    order = [(row["policy"], row["variant"], row["seed"]) for row in rows]
    assert order == [
        ("hpa", "default", 1),
        ("static", "n=9", 1),
        ("static", "n=9", 2),
        ("static", "n=12", 1),
    ]


def test_the_oracle_meets_all_at_its_charge() -> None:
    row = oracle_row(
        np.array([0, 0]), np.array([1800.0, 1800.0]), [a_batch_model()], 4, 7200.0, 2.0
    )
    assert row["slo_attainment"] == 1
    assert (row["gpu_hours_serving"], row["gpu_hours_total"]) == (1, 8)
    assert (row["cost_usd"], row["goodput_per_usd"]) == (2, 1800)


def test_an_interval_is_students() -> None:
    # Of 1, 2, 3: mean 2, deviation 1, t(2) = 4.303.
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.303 / np.sqrt(3))
    assert estimate([1.0]).half is None


def test_differences_are_paired_by_seed() -> None:
    rows = [a_row("ours", 1.0, 1, 1), a_row("ours", 5.0, 1, 2)]
    rows += [a_row("hpa", 6.0, 1, 2), a_row("hpa", 2.0, 1, 1)]
    ours, hpa = lines(rows)
    gap = paired(hpa, ours, "gpu_hours_serving")
    assert gap is not None
    assert (gap.mean, gap.half) == (1, 0)
