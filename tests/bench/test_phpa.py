"""PHPA by hand: internal/controllers/controller.go, algorithms/{linear_regression,holt_winters}."""

import numpy as np
import pytest

from bench.policies.autoscaler import Sample
from bench.policies.hpa import Behavior
from bench.policies.phpa import HoltWinters, Line, Phpa, PhpaSetting, holt_winters
from tests.bench.cases import a_case

S = 1000.0
FREE = Behavior(up_pods=50)


def play(phpa: Phpa, held: list[int], replicas: int) -> list[int]:
    wanted = []
    for i, in_flight in enumerate(held):
        at_ms = 15 * S * (i + 1)
        phpa.see(Sample(at_ms - 20 * S, 0, in_flight, 0, replicas))
        wanted.append(phpa.desired(at_ms, replicas, replicas))
    return wanted


def test_a_line_through_the_last_answers_goes_on() -> None:
    # The HPA says 2, 3, 4; ten seconds are two thirds of a step: 3.67 and 4.67.
    phpa = Phpa(a_case(1, 50), PhpaSetting(1.0, (Line(6, 10 * S),), FREE))
    assert play(phpa, [20, 30, 40], 2) == [2, 4, 5]


def test_the_answer_of_the_hpa_is_the_least() -> None:
    phpa = Phpa(a_case(1, 50), PhpaSetting(1.0, (Line(6, 60 * S),)))
    assert play(phpa, [50, 45, 40], 5) == [5, 5, 5]


def test_only_the_newest_answers_count() -> None:
    phpa = Phpa(a_case(1, 50), PhpaSetting(1.0, (Line(2, 15 * S),)))
    # 1, 1, 2: by the last two 3; by all three 2.33.
    assert play(phpa, [5, 5, 15], 1) == [1, 1, 3]


def test_a_season_that_repeats_is_foretold() -> None:
    model = HoltWinters(0.5, 0.2, 0.3, season=3)
    assert holt_winters(np.array([1.0, 2, 3] * 4), model) == pytest.approx(1)
    assert holt_winters(np.array([1.0, 2, 3] * 4 + [1]), model) == pytest.approx(2)


def test_a_step_moves_level_trend_and_season_as_by_hand() -> None:
    # Level 2, no trend, no season; then a 4 comes where 2 were: season 0.3 x 2, level
    # 0.5 x 4 + 0.5 x 2 = 3, trend 0.2 x 1; the next place of the season is untouched.
    values = np.array([2.0] * 4 + [4])
    model = HoltWinters(0.5, 0.2, 0.3, season=2)
    assert holt_winters(values, model) == pytest.approx(3 + 0.2 + 0)


def test_without_two_seasons_only_the_hpa_counts() -> None:
    phpa = Phpa(a_case(1, 50), PhpaSetting(1.0, (HoltWinters(season=6),), FREE))
    assert play(phpa, [20, 40, 60], 2) == [2, 4, 6]
