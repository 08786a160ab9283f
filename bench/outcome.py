"""What came of a run, by the definitions of `docs/benchmark.md`: pure sums over arrays.

Every figure is of the window [warmup_s, duration_s]: of the requests due in it, and of the
GPU-time in it. Infinite values are None.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.oracle import BatchType, LlmType, batch_useful_ms, llm_useful_ms
from bench.oracle import Work as LlmWork
from libs.common.messages import BatchLaw, ModelSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Row = dict[str, Any]

HOUR_S, HOUR_MS = 3600.0, 3_600_000.0
REGRET_FROM = 0.99  # attainment below which regret says nothing
OK, LATE = 1, 2


class Ended(NamedTuple):
    """The requests due in the window, (requests,). Times are ms; infinite: it was missed."""

    model: Ints  # index
    ok: Bools
    latency_ms: Floats
    ttft_ms: Floats  # of LLMs; else NaN
    tpot_ms: Floats
    oracle_gpu_s: Floats  # its part of the oracle's charge


class Used(NamedTuple):
    """The fleet's accounts over the window, (gpus,): differences of `FleetModel.accounts`."""

    accounts: npt.NDArray[Any]
    memory_bytes: Floats
    price_usd_per_hour: Floats


def percentile(values: Floats, share: float) -> float | None:
    """Return the value that `share` of all are at or below; None where it is infinite, or none is.

    The smallest value with that many at or below it: no interpolation between a time and infinity.
    """
    if not len(values):
        return None
    rank = max(0, int(np.ceil(share * len(values) - 1e-9)) - 1)
    value = float(np.partition(values, rank)[rank])
    return round(value, 3) if np.isfinite(value) else None


def percentiles(values: Floats) -> dict[str, float | None]:
    """Return p50 and p99."""
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}


def attainment(model: Ints, ok: Bools, count: int) -> list[float | None]:
    """Return each model's share of requests within its objective; None where none came."""
    came = np.bincount(model, minlength=count)
    good = np.bincount(model[ok], minlength=count)
    return [float(g) / float(c) if c else None for g, c in zip(good, came, strict=True)]


def row_of(
    ended: Ended,
    used: Used,
    specs: Sequence[ModelSpec],
    charge_ms: Floats,
    useful_ms: float,
    window_s: float,
) -> Row:
    """Return the figures of `results.json` that one run gives by itself.

    `charge_ms` is the serving charge by model, `useful_ms` the GPU-time that what was served would
    take at the best batch.
    """
    accounts = used.accounts
    serving_ms, training_ms = accounts["serving_ms"], accounts["training_ms"]
    total_ms = len(accounts) * window_s * 1000
    serving_h = float(serving_ms.sum()) / HOUR_MS
    cost = float((serving_ms * used.price_usd_per_hour).sum()) / HOUR_MS
    goodput = float(ended.oracle_gpu_s[ended.ok].sum())
    by_model = attainment(ended.model, ended.ok, len(specs))
    known = [share for share in by_model if share is not None]
    counts = np.bincount(ended.model, minlength=len(specs))
    busy_ms = accounts["busy_serving_ms"].sum() + accounts["busy_training_ms"].sum()
    llm = np.array([spec.kind == "llm" for spec in specs], np.bool_)[ended.model]
    return {
        "requests": len(ended.model),
        "slo_attainment": min(known) if known else None,
        "models": [
            {
                "model": spec.name,
                "requests": int(counts[m]),
                "slo_attainment": by_model[m],
                "gpu_hours_serving": round(float(charge_ms[m]) / HOUR_MS, 6),
            }
            for m, spec in enumerate(specs)
        ],
        "latency_ms": percentiles(ended.latency_ms[~llm]),
        "ttft_ms": percentiles(ended.ttft_ms[llm]),
        "tpot_ms": percentiles(ended.tpot_ms[llm]),
        "gpu_hours_serving": round(serving_h, 6),
        "gpu_hours_training": round(float(training_ms.sum()) / HOUR_MS, 6),
        "gpu_hours_total": round(total_ms / HOUR_MS, 6),
        "standby_memory_share": round(
            float(accounts["standby_byte_ms"].sum() / (used.memory_bytes.sum() * window_s * 1000)),
            6,
        ),
        "cost_usd": round(cost, 6),
        "goodput_per_gpu_hour": round(goodput / serving_h, 6) if serving_h else None,
        "goodput_per_usd": round(goodput / cost, 6) if cost else None,
        "gpu_busy_share": round(float(busy_ms) / total_ms, 6),
        "useful_work_share": round(
            (useful_ms + float(accounts["busy_training_ms"].sum())) / total_ms, 6
        ),
        "useful_serving_hours": round(useful_ms / HOUR_MS, 6),
        "training_steps": int(accounts["steps"].sum()),
        "oom_events": int(accounts["oom"].sum()),
    }


def oracle_row(
    model: Ints,
    oracle_gpu_s: Floats,
    specs: Sequence[ModelSpec],
    gpus: int,
    window_s: float,
    usd_per_hour: float,
) -> Row:
    """Return the oracle as a row: all met at the least charge, and None for all else."""
    counts = np.bincount(model, minlength=len(specs))
    charge_s = np.bincount(model, oracle_gpu_s, minlength=len(specs))
    hours = float(charge_s.sum()) / HOUR_S
    nothing = {"p50": None, "p99": None}
    return {
        "requests": len(model),
        "slo_attainment": 1.0,
        "models": [
            {
                "model": spec.name,
                "requests": int(counts[m]),
                "slo_attainment": 1.0 if counts[m] else None,
                "gpu_hours_serving": round(float(charge_s[m]) / HOUR_S, 6),
            }
            for m, spec in enumerate(specs)
        ],
        "latency_ms": nothing,
        "ttft_ms": nothing,
        "tpot_ms": nothing,
        "gpu_hours_serving": round(hours, 6),
        "gpu_hours_training": round(gpus * window_s / HOUR_S - hours, 6),
        "gpu_hours_total": round(gpus * window_s / HOUR_S, 6),
        "standby_memory_share": None,
        "cost_usd": round(hours * usd_per_hour, 6),
        "goodput_per_gpu_hour": HOUR_S if hours else None,
        "goodput_per_usd": round(HOUR_S / usd_per_hour, 6) if usd_per_hour and hours else None,
        "gpu_busy_share": None,
        "useful_work_share": None,
        "useful_serving_hours": None,
        "training_steps": None,
        "moves": 0,
        "oom_events": 0,
        "kv_preemptions": 0,
        "kv_migrations": 0,
    }


def with_regret(rows: list[Row]) -> list[Row]:
    """Return the rows of one scenario with both regrets, sorted by policy, variant and seed.

    Regret is the serving charge over that of the oracle, or of the clairvoyant, of the same seed,
    less 1; None below 99 % attainment, and where the other was not run.
    """
    charge = {
        (row["policy"], row["seed"]): row["gpu_hours_serving"]
        for row in rows
        if row["policy"] in ("oracle", "clairvoyant")
    }

    def regret(row: Row, of: str) -> float | None:
        base = charge.get((of, row["seed"]))
        attained = row["slo_attainment"] is not None and row["slo_attainment"] >= REGRET_FROM
        return round(row["gpu_hours_serving"] / base - 1, 6) if base and attained else None

    done = [
        {
            **row,
            "regret_vs_oracle": regret(row, "oracle"),
            "regret_vs_clairvoyant": regret(row, "clairvoyant"),
        }
        for row in rows
    ]
    return sorted(done, key=lambda row: (row["policy"], _order(row["variant"]), row["seed"]))


def useful_ms(done: npt.NDArray[Any], specs: Sequence[ModelSpec], types: Sequence[str]) -> float:
    """Return the GPU-time that the completed requests' work takes at the best batch of its GPU.

    `done` is a difference of `FleetModel.work`, (models, device types).
    """
    total = 0.0
    for m, spec in enumerate(specs):
        for t, name in enumerate(types):
            law = spec.law.get(name)
            record = done[m, t]
            if law is None:
                continue
            if isinstance(law, BatchLaw):
                each_ms = batch_useful_ms(batch_type(spec, law), spec.objective.latency_ms)
                total += float(record["done_requests"]) * each_ms * spec.gpus
            else:
                parts = (record[f"done_{p}"] for p in ("prefill_tokens", "decodes", "kv_reads"))
                work = LlmWork(*(np.array([int(part)], np.int64) for part in parts))
                total += float(
                    llm_useful_ms(work, llm_type(law), spec.objective.tpot_ms)[0] * spec.gpus
                )
    return total


def batch_type(spec: ModelSpec, law: BatchLaw) -> BatchType:
    """Return a batch law as the oracle has it."""
    return BatchType(law.alpha_ms, law.beta_ms, spec.batch_max)


def llm_type(law: Any) -> LlmType:
    """Return the law of an LLM's iteration as the oracle has it."""
    return LlmType(law.base_ms, law.prefill_token_ms, law.decode_seq_ms, law.kv_token_ms)


def _order(variant: str) -> tuple[str, int, str]:
    name, _, number = variant.partition("=")
    return (name, int(number), "") if number.isdigit() else (name, -1, number)
