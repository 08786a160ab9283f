import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.predictor.core import load_times
from services.predictor.core.load_times import KEPT

PRIOR_MS = np.array([10_000.0])
UNDECLARED = np.array([np.nan])


def after(*loads_ms: float, prior_ms: np.ndarray = PRIOR_MS) -> float:
    state = load_times.nothing_seen(1)
    for load_ms in loads_ms:
        state = load_times.add(state, np.array([[1.0], [load_ms]]))
    return float(load_times.load_ms(state, prior_ms)[0])


def test_before_the_first_load_it_is_what_the_registry_says() -> None:
    assert after() == 10_000
    assert np.isnan(after(prior_ms=UNDECLARED))


def test_it_is_the_ninetieth_percentile_of_the_newest_and_the_registrys_as_one_more() -> None:
    rng = np.random.default_rng(2)
    loads = rng.gamma(9, 2000, 50)
    assert after(*loads) == pytest.approx(np.quantile(np.append(loads[-KEPT:], 10_000), 0.9))
    assert after(*loads[:7], prior_ms=UNDECLARED) == pytest.approx(np.quantile(loads[:7], 0.9))


def test_a_slow_load_in_ten_is_planned_for_where_the_mean_forgets_it() -> None:
    loads = ([14_000.0] * 8 + [40_000.0] * 2) * 2
    assert after(*loads) == 40_000
    assert after(*loads, *[14_000.0] * KEPT) == 14_000, (
        "and it is forgotten when it has not recurred"
    )


def test_loads_that_end_between_two_samples_count_each_with_their_mean() -> None:
    state = load_times.add(load_times.nothing_seen(1), np.array([[2.0], [30_000.0]]))
    assert load_times.load_ms(state, UNDECLARED)[0] == 15_000
    assert (~np.isnan(state)).sum() == 2
    many = load_times.add(state, np.array([[1e6], [7e9]]))
    assert (many == 7000).all()


def test_what_is_not_known_is_passed_over() -> None:
    none = load_times.nothing_seen(2)
    grown = np.array([[np.nan, 1.0], [5000.0, np.nan]])
    assert np.isnan(load_times.add(none, grown)).all()


@given(st.lists(st.floats(1, 1e7), max_size=60), st.floats(1, 1e7))
def test_it_lies_within_what_was_seen_and_a_longer_load_never_shortens_it(
    loads: list[float], prior_ms: float
) -> None:
    prior = np.array([prior_ms])
    said = after(*loads, prior_ms=prior)
    seen = [*loads[-KEPT:], prior_ms]
    assert min(seen) * (1 - 1e-9) <= said <= max(seen) * (1 + 1e-9)
    if loads:
        assert after(*loads[:-1], 2 * loads[-1], prior_ms=prior) >= said * (1 - 1e-9)
