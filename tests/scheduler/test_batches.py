import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.core import batches, theta
from services.scheduler.core.policy import Policy

alphas = st.floats(0, 500)
betas = st.floats(0.1, 100)


def of(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


@given(alphas, betas, st.floats(1, 5000))
def test_two_of_the_largest_batch_fit_the_budget_and_two_of_the_next_do_not(alpha, beta, budget):
    batch = int(batches.largest_within(of(alpha), of(beta), of(budget))[0])
    assert batch >= 1
    assert batch == 1 or 2 * (alpha + beta * batch) <= budget + 1e-3
    assert batch == 4096 or 2 * (alpha + beta * (batch + 1)) > budget - 1e-3


@given(alphas, betas, st.floats(0, 2000))
def test_the_batch_for_a_rate_carries_it_or_nothing_does(alpha, beta, rate):
    batch = batches.needed_for(of(alpha), of(beta), of(rate), 0.7)
    carried = 0.7 * batches.capacity_rps(of(alpha), of(beta), batch)[0]
    assert carried >= rate * (1 - 1e-6) or batch[0] == 4096


@given(alphas, betas, st.floats(0, 2000), st.floats(1, 3))
def test_a_higher_rate_never_needs_a_smaller_batch(alpha, beta, rate, times):
    low = batches.needed_for(of(alpha), of(beta), of(rate), 0.7)
    high = batches.needed_for(of(alpha), of(beta), of(rate * times), 0.7)
    assert high >= low


@given(st.integers(0, 64), st.integers(1, 64), st.integers(1, 64))
def test_a_settled_batch_stays_put_covers_the_need_and_never_passes_the_limit(
    current, wanted, limit
):
    args = (np.array([wanted]), np.array([limit]))
    batch = batches.settled(np.array([current]), *args)
    assert min(wanted, limit) <= batch[0] <= limit
    assert batches.settled(batch, *args) == batch


def test_waiting_pays_only_where_company_saves_more_than_the_wait_costs():
    # A ms of waiting at 40 requests/s brings 0.04 of them and saves 0.04 x 20 ms; at 60, 1.2 ms.
    args = (of(20, 20), of(5, 5), np.array([4, 4]), of(40, 60))
    assert batches.wait_ms(*args, of(200, 200), of(30, 30)).tolist() == [0, 30]
    # Two batches of 40 ms leave 10 of 90.
    assert batches.wait_ms(*args, of(90, 90), of(30, 30)).tolist() == [0, 10]
    assert batches.wait_ms(*args, of(60, 60), of(30, 30)).tolist() == [0, 0]


def test_an_unknown_law_has_no_capacity_and_a_batch_of_one():
    unknown = of(np.nan)
    assert batches.largest_within(unknown, unknown, of(100)) == 1
    assert batches.capacity_rps(unknown, unknown, np.array([1])) == 0
    assert batches.needed_for(unknown, unknown, of(5), 0.7) == 1


def test_theta_falls_fast_near_the_objective_rises_slowly_far_from_it_and_keeps_its_bounds():
    policy = Policy()
    ratios = of(0.9, 0.8, 0.5, np.nan, 2.0, 0.1)
    now = theta.corrected(of(0.7, 0.7, 0.7, 0.7, 0.1, 0.85), ratios, policy)
    assert now.tolist() == [0.63, 0.7, 0.721, 0.7, 0.1, 0.85]
