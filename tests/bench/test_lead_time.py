"""How forecasts over the lead time are judged."""

import numpy as np
import pytest

from bench.accuracy.lead_time import P95, P99, Holt, Made, Ours, foresee, judge


def test_the_figures_are_those_of_a_straight_loop() -> None:
    rng = np.random.default_rng(1)
    counts, lead_s, begin_s = rng.poisson(30, 200).astype(float), 25, 50
    made = Made(rng.uniform(25, 35, 200), np.sort(rng.uniform(28, 40, (200, 6)), axis=1))
    errors, came_sum, pinballs, held = 0.0, 0.0, [], []
    for now in range(begin_s, len(counts) - lead_s):
        ahead = counts[now + 1 : now + 1 + lead_s]
        came, peak = ahead.mean(), max(ahead[k : k + 10].mean() for k in range(lead_s - 9))
        errors, came_sum = errors + abs(came - made.mean[now]), came_sum + came
        off = peak - made.peak[now, [P95, P99]]
        pinballs.append(np.where(off > 0, [0.95, 0.99] * off, [-0.05, -0.01] * off))
        held.append(off <= 0)
    expected = [errors / came_sum, *(np.mean(pinballs, axis=0) / counts.mean())]
    assert judge(counts, lead_s, made, begin_s) == pytest.approx(
        [*expected, *np.mean(held, axis=0)]
    )


def test_a_season_that_stands_in_the_counts_is_worth_its_methods() -> None:
    at = np.arange(3000)
    counts = np.random.default_rng(2).poisson(50 * (1 + 0.7 * np.sin(2 * np.pi * at / 200)))
    ours, holt = (
        judge(counts.astype(float), 60, foresee(counts.astype(float), 60, method), 1500)
        for method in (Ours(), Holt())
    )
    assert ours[0] < 0.5 * holt[0], "error of the mean"
    assert ours[1] < 0.5 * holt[1], "pinball loss of the peak's p95"
    assert ours[3] > holt[3]
