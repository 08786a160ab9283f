"""The headline's ratios: against whom, and why one cannot be had."""

from typing import Any

import pytest

from bench.compare import lines
from bench.headline import Ratio, ratios
from tests.bench.test_sentences import row

HOURS = 2.0


def a_row(policy: str, gpus: float, **more: Any) -> dict[str, Any]:
    """Made-up figures: GPUs at 2 dollars an hour, 30 useful GPU-hours of serving."""
    charge = gpus * HOURS
    return row(
        policy,
        0.999,
        charge,
        useful_serving_hours=30.0,
        goodput_per_gpu_hour=3600 * 30 / charge,
        goodput_per_usd=3600 * 30 / charge / 2,
        **more,
    )


def by_name(*rows: dict[str, Any]) -> dict[str, Ratio]:
    return {line.name: line for line in ratios(lines(list(rows)), HOURS)}


def test_a_static_fleet_is_counted_on_its_own_gpus_over_the_whole_time() -> None:
    # Its charge is less than its GPUs: beside a backlog it trains. Here that counts for nothing.
    found = by_name(a_row("ours", 20, useful_work_share=0.75), a_row("static", 30, variant="n=60"))
    useful, goodput = found["useful-work share"], found["goodput per dollar"]
    assert useful.static == pytest.approx(30 / (60 * HOURS))
    assert useful.times == pytest.approx(3.0)
    assert useful.held
    assert goodput.times == pytest.approx(60 / 20)
    assert goodput.held


def test_latency_is_compared_with_as_many_gpus_as_ours_is_charged_for() -> None:
    found = by_name(
        a_row("ours", 20, ttft_ms={"p99": 300.0}, latency_ms={"p99": 100.0}),
        a_row("static", 60, variant="n=60", ttft_ms={"p99": 200.0}),
        a_row("static", 21, variant="n=21", ttft_ms={"p99": 1000.0}, latency_ms={"p99": None}),
    )
    first = found["p99 time to first token"]
    assert first.times == pytest.approx(0.3)
    assert first.held
    assert found["p99 latency"].held is None
    assert "infinite" in found["p99 latency"].why


def test_without_such_a_fleet_the_table_says_so() -> None:
    found = by_name(a_row("ours", 20), a_row("static", 60, variant="n=60"))
    assert found["p99 latency"].times is None
    assert "20 GPUs" in found["p99 latency"].why
    assert ratios(lines([a_row("ours", 20)]), HOURS) == []
