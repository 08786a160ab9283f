import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.predictor.core import laws, load_times
from services.predictor.core.jit import Row
from services.predictor.core.load_times import KEPT

PRIOR_MS = 10_000.0
UNDECLARED = math.nan


def seen(*loads_ms: float) -> Row:
    state = laws.nothing_measured(1)[0]
    for load_ms in loads_ms:
        load_times.add(state, 1.0, load_ms)
    return state


def after(*loads_ms: float, prior_ms: float = PRIOR_MS) -> float:
    return load_times.load_ms(seen(*loads_ms), prior_ms)


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
    state = seen()
    load_times.add(state, 2.0, 30_000.0)
    assert load_times.load_ms(state, UNDECLARED) == 15_000
    assert (state["loads_ms"] > 0).sum() == 2
    load_times.add(state, 1e6, 7e9)
    assert (state["loads_ms"] == 7000).all()


def test_what_is_not_known_is_passed_over() -> None:
    state = seen()
    for loads, ms in ((math.nan, 5000.0), (1.0, math.nan), (0.0, 0.0)):
        load_times.add(state, loads, ms)
    assert (state["loads_ms"] == 0).all()


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(1, 1e7), max_size=60), st.floats(1, 1e7))
def test_it_lies_within_what_was_seen_and_a_longer_load_never_shortens_it(
    loads: list[float], prior_ms: float
) -> None:
    said = after(*loads, prior_ms=prior_ms)
    seen = [*loads[-KEPT:], prior_ms]
    assert min(seen) * (1 - 1e-9) <= said <= max(seen) * (1 + 1e-9)
    if loads:
        assert after(*loads[:-1], 2 * loads[-1], prior_ms=prior_ms) >= said * (1 - 1e-9)
