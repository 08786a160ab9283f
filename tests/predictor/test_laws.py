import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.predictor.core import laws
from services.predictor.core.jit import Row

ALPHA, BETA, LARGEST = 20.0, 5.0, 16.0
(PRIOR,) = np.array([(ALPHA, BETA, LARGEST, np.nan)], laws.PRIOR)


def sums_of(sizes: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    each = (np.ones_like(sizes), sizes, times_ms, sizes**2, sizes * times_ms)
    return np.array([part.sum() for part in each])


def after(*batches: np.ndarray) -> Row:
    (sums,) = laws.nothing_measured(1)
    for grown in batches:
        laws.add_batches(sums, *grown)
    return sums


def fitted(state: Row) -> tuple[float, float]:
    return laws.fit(state, PRIOR)


def test_no_batch_means_the_law_of_the_registry() -> None:
    assert fitted(after()) == pytest.approx((ALPHA, BETA))


def test_the_fit_is_weighted_least_squares_with_forgetting() -> None:
    rng = np.random.default_rng(1)
    state, rows, weights = after(), [], np.array([])
    for _ in range(50):
        sizes = rng.integers(1, 17, 20).astype(float)
        times_ms = 31 + 2.5 * sizes + rng.normal(0, 3, 20)
        laws.add_batches(state, *sums_of(sizes, times_ms))
        weights = np.append(weights * np.exp(-20 / laws.MEMORY_BATCHES), np.ones(20))
        rows += list(zip(sizes, times_ms, strict=True))
    # The prior: a batch of 1 and one of the largest size, never forgotten.
    rows += [(1.0, ALPHA + BETA), (LARGEST, ALPHA + BETA * LARGEST)]
    root = np.sqrt(np.append(weights, [1.0, 1.0]))
    table = np.array(rows)
    design = np.column_stack((np.ones(len(table)), table[:, 0]))
    expected = np.linalg.lstsq(design * root[:, None], table[:, 1] * root, rcond=None)[0]
    assert fitted(state) == pytest.approx(tuple(expected))
    assert fitted(state) == pytest.approx((31, 2.5), rel=0.05), "the registry is outvoted"
    assert state["seen"] == 1000


def test_batches_of_one_size_teach_the_time_at_that_size() -> None:
    sizes = np.full(400, 8.0)
    alpha, beta = fitted(after(sums_of(sizes, sizes * 0 + 120.0)))
    assert alpha + 8 * beta == pytest.approx(120, rel=0.01)
    assert alpha > 0
    assert beta > 0


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0.01, 1e4)), max_size=30))
def test_alpha_is_never_negative_and_beta_is_positive(batches: list[tuple[int, float]]) -> None:
    table = np.array(batches, dtype=float).reshape(-1, 2)
    alpha, beta = fitted(after(sums_of(table[:, 0], table[:, 1])))
    assert alpha >= 0
    assert beta > 0
    assert np.isfinite(alpha + beta)


def test_what_is_not_known_is_passed_over_whole() -> None:
    grown = sums_of(np.array([4.0]), np.array([50.0]))
    grown[4] = np.nan
    assert after(grown) == after()
    (unknown,) = np.full(1, np.nan, laws.PRIOR)
    assert np.isnan(laws.fit(after(), unknown)).all()
