"""Made-up figures go in, and what is said of them changes with them."""

from typing import Any

import pytest

from bench.compare import Line, cheapest, frontier, lines, ranked, ratio
from bench.sentences import headline, sentences, standing


def row(
    policy: str,
    attained: float,
    charge: float,
    trained: float = 10.0,
    variant: str = "default",
    seed: int = 1,
    **more: Any,
) -> dict[str, Any]:
    return {
        "policy": policy,
        "variant": variant,
        "seed": seed,
        "slo_attainment": attained,
        "gpu_hours_serving": charge,
        "gpu_hours_training": trained,
        "gpu_busy_share": 0.5,
        "useful_work_share": 0.4,
        "latency_ms": {"p99": 100.0},
        "ttft_ms": {"p99": 500.0},
        "goodput_per_usd": 1000.0,
        **more,
    }


def said(*rows: dict[str, Any]) -> list[str]:
    """The three sentences of an hour."""
    return sentences(lines(list(rows)), 1.0)


def names(found: list[Line]) -> list[str]:
    return [line.name for line in found]


def test_the_frontier_has_the_least_charge_at_each_attainment() -> None:
    found = lines(
        [
            row("hpa", 0.9, 10),
            row("kpa", 0.95, 9),  # better and cheaper than hpa
            row("ray", 0.99, 20),
            row("keda", 0.99, 25),  # as good as ray, and dearer
            row("wva", 1.0, 30),
        ]
    )
    assert names(frontier(found)) == ["kpa", "ray", "wva"]
    for attained, who in ((0.5, "kpa"), (0.96, "ray"), (0.995, "wva")):
        best = cheapest(found, attained)
        assert best is not None
        assert best.name == who
    assert cheapest(found[:4], 0.995) is None


def test_those_that_attain_come_first_by_charge_then_the_others_by_attainment() -> None:
    found = lines(
        [row("a", 0.9, 1), row("b", 0.996, 9), row("c", 0.994, 2), row("d", 0.995, 8)],
    )
    assert names(ranked(found)) == ["d", "b", "c", "a"]


def test_lines_are_compared_on_the_seeds_of_both() -> None:
    ours, hpa = lines(
        [row("ours", 1, 4, seed=1), row("ours", 1, 400, seed=2), row("hpa", 1, 8, seed=1)]
    )
    assert ratio(ours, hpa, "gpu_hours_serving") == 0.5
    assert ratio(hpa, ours, "gpu_hours_serving") == 2


@pytest.mark.parametrize(
    ("attained", "charge", "begins"),
    [
        (0.999, 20.0, "At 99.5 % or more ours wins: 99.9 % with 20.0 GPUs serving"),
        (0.999, 40.0, "At 99.5 % or more ours ties"),
        (0.999, 60.0, "At 99.5 % or more ours loses: 99.9 % with 60.0 GPUs serving"),
        (0.98, 20.0, "Ours loses where 99.5 % must be held, as it misses that: it has 98 %"),
    ],
)
def test_who_wins_depends_on_attainment_and_charge(
    attained: float, charge: float, begins: str
) -> None:
    first, _, _ = said(
        row("ours", attained, charge),
        row("hpa", 0.997, 40, variant="tuned"),
        row("kpa", 0.8, 5),  # cheap, and no match
    )
    assert first.startswith(begins)
    assert "hpa tuned, with 99.7 % and 40.0 GPUs serving and 10.0 training" in first
    assert f"{charge / 40:.2f} times the charge" in first


def test_where_no_peer_attains_it_is_said_whether_ours_does() -> None:
    assert said(row("ours", 0.999, 20), row("hpa", 0.9, 10))[0].startswith("Ours wins, as no peer")
    ahead = said(row("ours", 0.95, 20), row("hpa", 0.9, 10))[0]
    behind = said(row("ours", 0.85, 20), row("hpa", 0.9, 10))[0]
    assert ahead.startswith("Nobody attains 99.5 %, and ours is ahead")
    assert behind.startswith("Nobody attains 99.5 %, and ours is behind")


def test_a_near_miss_is_not_rounded_up_to_a_hit() -> None:
    assert "it has 99.49 %" in said(row("ours", 0.99498, 20), row("hpa", 1.0, 30))[0]


def test_what_shares_gain_is_the_median_over_peers_of_the_same_counts() -> None:
    rows = [row("ours", 1, 5)]
    for peer, alone, shared in (("hpa", 20, 10), ("kpa", 20, 16), ("ray", 20, 12)):
        rows.append(row(peer, 0.99, alone))
        rows.append(row(peer, 0.992, shared, 14, variant="default+shares"))
    second = said(*rows)[1]
    assert "the counts of 3 peers untuned, gain: in the median +0.20 points" in second
    assert "0.60 times the charge (0.50 to 0.80), +4.0 GPUs of training" in second


@pytest.mark.parametrize(
    ("attained", "charge", "verdict"),
    [(0.999, 8.0, "gain"), (0.999, 10.0, "change nothing"), (0.999, 12.0, "lose")],
)
def test_what_our_counts_add_is_told_beside_the_best_counts_of_others(
    attained: float, charge: float, verdict: str
) -> None:
    third = said(
        row("ours", attained, charge),
        row("hpa", 0.999, 10, variant="tuned+shares"),
        row("kpa", 0.9, 2, variant="default+shares"),
        row("clairvoyant", 1.0, charge / 2),
    )[2]
    assert f"our forecast and placement {verdict} against the best of these, hpa tuned" in third
    assert f"{charge / 10:.2f} times the charge; to know the future would give" in third
    assert third.endswith("+0.10 points and 0.50 times the charge.")


def test_dearer_and_better_is_called_a_trade() -> None:
    third = said(row("ours", 0.999, 12), row("hpa", 0.9, 10, variant="tuned+shares"))[2]
    assert "trade one for the other" in third


def test_the_standing_gives_the_ratio_at_our_attainment_and_at_the_target() -> None:
    found = lines([row("ours", 0.98, 10), row("hpa", 0.985, 20), row("static", 1.0, 40)])
    (text,) = standing(found, 1.0)
    assert "98.5 % hpa 20.0; 100 % static 40.0" in text
    assert "Ours, 98 % with 10.0: 0.50 × the charge of hpa, the cheapest with as much" in text
    assert "0.25 × the charge of static, the cheapest with 99.5 %" in text


def test_the_headline_compares_with_the_smallest_static_fleet_that_attains() -> None:
    found = lines(
        [
            row("ours", 1, 10, gpu_busy_share=0.9, goodput_per_usd=3000.0),
            row("static", 0.9, 10, variant="n=10"),
            row("static", 1.0, 20, variant="n=20", ttft_ms={"p99": 250.0}),
            row("static", 1.0, 30, variant="n=30"),
        ]
    )
    text = headline(found)
    assert "(n=20, the smallest with 99.5 %)" in text
    assert "busy share of the fleet 1.80 ×" in text
    assert "p99 TTFT 2.00 ×" in text
    assert text.endswith("goodput per dollar 3.00 ×.")


def test_a_figure_that_is_not_finite_is_no_ratio() -> None:
    found = lines(
        [row("ours", 1, 10, latency_ms={"p99": None}), row("static", 1.0, 20, variant="n=20")]
    )
    assert "p99 latency not defined" in headline(found)


def test_without_ours_or_peers_nothing_is_claimed() -> None:
    assert said(row("hpa", 1, 1)) == ["Ours was not run, so there is nothing to compare it with."]
    assert headline(lines([row("ours", 1, 1)])).startswith("No headline")
    assert "was not run" in said(row("ours", 1, 1))[1]
