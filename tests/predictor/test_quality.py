import numpy as np
import pytest

from services.predictor.core import quality
from services.predictor.core.quality import Quality


def judged(seconds: int, error_rps: float, covered: float, state: Quality | None = None) -> Quality:
    state = quality.nothing_judged(1) if state is None else state
    each = Quality(*(np.array([value]) for value in (1.0, covered, error_rps, 10.0)))
    for _ in range(seconds):
        state = quality.add(state, each, 1.0)
    return state


def test_before_a_minute_of_judgements_nothing_is_said() -> None:
    early = judged(59, 2.0, 1.0)
    assert np.isnan(quality.wape(early)).all()
    assert np.isnan(quality.coverage_p95(early)).all()
    later = judged(70, 2.0, 1.0)
    assert quality.wape(later)[0] == pytest.approx(0.2)
    assert quality.coverage_p95(later)[0] == pytest.approx(1.0)


def test_the_figures_are_those_of_late() -> None:
    state = judged(3600, 8.0, 0.0)
    state = judged(1800, 1.0, 1.0, state)
    old = np.exp(-1800 / quality.MEMORY_S)
    assert quality.wape(state)[0] == pytest.approx(0.8 * old + 0.1 * (1 - old), rel=0.01)
    assert quality.coverage_p95(state)[0] == pytest.approx(1 - old, rel=0.01)


def test_what_was_judged_long_ago_is_known_no_more() -> None:
    state = judged(3600, 1.0, 1.0)
    silent = quality.add(state, quality.nothing_judged(1), 3600.0)
    assert np.isnan(quality.coverage_p95(silent)).all()


def test_where_nothing_came_an_error_is_a_share_of_nothing() -> None:
    nothing = Quality(*(np.array([value]) for value in (100.0, 100.0, 0.0, 0.0)))
    assert np.isnan(quality.wape(nothing)[0])
    assert quality.coverage_p95(nothing)[0] == 1
