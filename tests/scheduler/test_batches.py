import math

from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.core import batches, theta
from services.scheduler.core.policy import Policy

alphas = st.floats(0, 500)
betas = st.floats(0.1, 100)


@settings(deadline=None)  # the first call compiles
@given(alphas, betas, st.floats(1, 5000))
def test_two_of_the_largest_batch_fit_the_budget_and_two_of_the_next_do_not(alpha, beta, budget):
    batch = batches.largest_within(alpha, beta, budget)
    assert batch >= 1
    assert batch == 1 or 2 * (alpha + beta * batch) <= budget + 1e-3
    assert batch == 4096 or 2 * (alpha + beta * (batch + 1)) > budget - 1e-3


@settings(deadline=None)
@given(alphas, betas, st.floats(0, 2000))
def test_the_batch_for_a_rate_carries_it_or_nothing_does(alpha, beta, rate):
    batch = batches.needed_for(alpha, beta, rate, 0.7)
    carried = 0.7 * batches.capacity_rps(alpha, beta, batch)
    assert carried >= rate * (1 - 1e-6) or batch == 4096


@settings(deadline=None)
@given(alphas, betas, st.floats(0, 2000), st.floats(1, 3))
def test_a_higher_rate_never_needs_a_smaller_batch(alpha, beta, rate, times):
    low = batches.needed_for(alpha, beta, rate, 0.7)
    high = batches.needed_for(alpha, beta, rate * times, 0.7)
    assert high >= low


@settings(deadline=None)
@given(st.integers(0, 64), st.integers(1, 64), st.integers(1, 64))
def test_a_settled_batch_stays_put_covers_the_need_and_never_passes_the_limit(
    current, wanted, limit
):
    batch = batches.settled(current, wanted, limit)
    assert min(wanted, limit) <= batch <= limit
    assert batches.settled(batch, wanted, limit) == batch


def test_waiting_pays_only_where_company_saves_more_than_the_wait_costs():
    # A ms of waiting at 40 requests/s brings 0.04 of them and saves 0.04 x 20 ms; at 60, 1.2 ms.
    def waits_ms(budget_ms: float) -> list[float]:
        return [batches.wait_ms(20.0, 5.0, 4, rate, budget_ms, 30.0) for rate in (40.0, 60.0)]

    assert waits_ms(200.0) == [0, 30]
    # Two batches of 40 ms leave 10 of 90.
    assert waits_ms(90.0) == [0, 10]
    assert waits_ms(60.0) == [0, 0]


def test_an_unknown_law_has_no_capacity_and_a_batch_of_one():
    unknown = math.nan
    assert batches.largest_within(unknown, unknown, 100.0) == 1
    assert batches.capacity_rps(unknown, unknown, 1) == 0
    assert batches.needed_for(unknown, unknown, 5.0, 0.7) == 1


def test_theta_falls_fast_near_the_objective_rises_slowly_far_from_it_and_keeps_its_bounds():
    policy = Policy()
    rows = ((0.7, 0.9), (0.7, 0.8), (0.7, 0.5), (0.7, math.nan), (0.1, 2.0), (0.85, 0.1))
    now = [theta.corrected(before, ratio, policy) for before, ratio in rows]
    assert now == [0.63, 0.7, 0.721, 0.7, 0.1, 0.85]
