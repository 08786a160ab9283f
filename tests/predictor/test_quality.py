import math

import pytest

from services.predictor.core import quality, residuals
from services.predictor.core.jit import Row

CAME = 10.0


def judged(seconds: int, error_rps: float, covered: bool, state: Row | None = None) -> Row:
    state = residuals.no_record(1)[0] if state is None else state
    for _ in range(seconds):
        quality.fade(state)
        quality.judge(state, CAME + 1 if covered else CAME - 1, CAME, CAME - error_rps)
    return state


def test_before_a_minute_of_judgements_nothing_is_said() -> None:
    early = judged(59, 2.0, covered=True)
    assert math.isnan(quality.wape(early))
    assert math.isnan(quality.coverage_p95(early))
    later = judged(11, 2.0, covered=True, state=early)
    assert quality.wape(later) == pytest.approx(0.2)
    assert quality.coverage_p95(later) == pytest.approx(1.0)


def test_the_figures_are_those_of_late() -> None:
    state = judged(3600, 8.0, covered=False)
    judged(1800, 1.0, covered=True, state=state)
    old = math.exp(-1800 / quality.MEMORY_S)
    assert quality.wape(state) == pytest.approx(0.8 * old + 0.1 * (1 - old), rel=0.01)
    assert quality.coverage_p95(state) == pytest.approx(1 - old, rel=0.01)


def test_what_was_judged_long_ago_is_known_no_more() -> None:
    state = judged(3600, 1.0, covered=True)
    for _ in range(3600):
        quality.fade(state)
    assert math.isnan(quality.coverage_p95(state))


def test_where_nothing_came_no_error_is_a_share_of_it() -> None:
    state = residuals.no_record(1)[0]
    for _ in range(100):
        quality.judge(state, 1.0, 0.0, 0.0)
    assert math.isnan(quality.wape(state))
    assert quality.coverage_p95(state) == 1


def test_a_forecast_without_a_band_is_not_judged() -> None:
    state = judged(100, 1.0, covered=True)
    before = state.copy()
    quality.judge(state, math.nan, 10.0, 20.0)
    assert state == before or repr(state) == repr(before)
