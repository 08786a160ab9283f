import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.predictor.core import arrivals, methods
from services.predictor.core.arrivals import Outlook
from services.predictor.core.horizons import FIVE, LEAD, SECOND, TICK
from services.predictor.core.jit import Row, Table

LEAD_S = 60.0
counts_each_100_ms = st.lists(st.integers(0, 500), min_size=20, max_size=60)


def at_a_whole_second(models: int) -> Table:
    state = arrivals.nothing_seen(models)
    state["partial"] = state["early"] = 0
    return state


def run(counts: list[float]) -> tuple[Row, Row]:
    """Feed one model with arrivals of 100 ms each; seconds are whole."""
    (state,), (learned,) = at_a_whole_second(1), methods.nothing_learned(1)
    for at, count in enumerate(counts, start=1):
        arrivals.add(state, float(count), 0.0)
        arrivals.see(state, float(count), 100.0)
        if at % 10 == 0:
            arrivals.close_second(state)
            methods.close_second(learned, state, at // 10, LEAD_S)
    return state, learned


def outlook(of: tuple[Row, Row]) -> Outlook:
    state, learned = of
    return arrivals.outlook(state, methods.points(learned))


HORIZONS_S = {TICK: 0.2, SECOND: 1.0, FIVE: 5.0, LEAD: LEAD_S}


@pytest.mark.parametrize("rate_rps", [5, 20, 200])
@pytest.mark.parametrize("phase", range(10))
def test_a_tenfold_burst_shows_within_two_samples(rate_rps: int, phase: int) -> None:
    steady = [rate_rps / 10] * (200 + phase)
    one, two = (run(steady + [rate_rps] * samples) for samples in (1, 2))
    first, second = outlook(one), outlook(two)
    assert second.level_rps + second.excess_rps > 7 * rate_rps
    assert first.level_rps + first.excess_rps > 5 * rate_rps


def test_a_burst_that_lasts_never_falls_back_to_the_old_level() -> None:
    steady = [2.0] * 200
    for samples in range(2, 60):
        counts = [*steady, *([20.0] * samples)]
        now = outlook(run(counts))
        assert now.level_rps + now.excess_rps > 0.6 * 200


def test_a_change_that_lasts_is_learned_within_ten_seconds() -> None:
    after = run([2.0] * 1000 + [10.0] * 100)
    assert outlook(after).level_rps > 0.9 * 100
    back = run([2.0] * 1000 + [10.0] * 300 + [2.0] * 100)
    assert outlook(back).level_rps < 1.5 * 20


def test_before_the_first_arrival_nothing_is_learned() -> None:
    late, prompt = run([0.0] * 300 + [4.0] * 20), run([4.0] * 20)
    assert outlook(late).level_rps == outlook(prompt).level_rps == pytest.approx(40)
    assert late[0]["dispersion"] == prompt[0]["dispersion"]
    assert outlook(run([0.0] * 300)).level_rps == 0, "and yet the rate is known"


def test_poisson_noise_is_seldom_taken_for_a_burst() -> None:
    rng = np.random.default_rng(1)
    bursts = 0
    rates_rps = np.repeat([1.0, 5.0, 20.0, 100.0], 10)
    models = zip(rates_rps, at_a_whole_second(40), methods.nothing_learned(40), strict=True)
    for rate_rps, state, learned in models:
        for at in range(1, 601):
            grown = float(rng.poisson(rate_rps / 10))
            arrivals.add(state, grown, 0.0)
            arrivals.see(state, grown, 100.0)
            if at % 10 == 0:
                arrivals.close_second(state)
                methods.close_second(learned, state, at // 10, LEAD_S)
            if at > 100:
                bursts += outlook((state, learned)).excess_rps > 0
    assert 0 < bursts < 0.02 * 500 * 40


@settings(deadline=None)  # the first call compiles
@given(counts_each_100_ms, st.integers(1, 500))
def test_more_arrivals_in_the_newest_sample_never_foresee_less(
    counts: list[int], more: int
) -> None:
    fewer, extra = run(counts), run([*counts[:-1], counts[-1] + more])
    for horizon, horizon_s in HORIZONS_S.items():
        low, high = (arrivals.mean_rps(outlook(of), horizon, horizon_s) for of in (fewer, extra))
        assert high >= low * (1 - 1e-12)


@settings(deadline=None)  # the first call compiles
@given(counts_each_100_ms)
def test_no_forecast_is_negative_or_unknown(counts: list[int]) -> None:
    now = outlook(run(counts))
    for horizon, horizon_s in HORIZONS_S.items():
        assert arrivals.mean_rps(now, horizon, horizon_s) >= 0
    assert 1 <= now.dispersion <= arrivals.DISPERSION_STEP_MAX
    assert 1 <= now.worth_s <= arrivals.LEVEL_WORTH_S


def test_a_burst_is_counted_in_as_the_integral_of_what_fades() -> None:
    now = Outlook((7.0,) * 6, 7.0, 3.0, 1.0, 1.0)
    for horizon, horizon_s in HORIZONS_S.items():
        t = (np.arange(100_000) + 0.5) * horizon_s / 100_000
        expected = (7 + 3 * np.exp(-t / arrivals.EXCESS_FADES_S)).mean()
        assert arrivals.mean_rps(now, horizon, horizon_s) == pytest.approx(expected, rel=1e-6)


def test_the_dispersion_is_variance_over_mean_of_whole_seconds() -> None:
    rng = np.random.default_rng(2)
    for true, seconds in (
        (1.0, rng.poisson(20, 120)),
        (5.0, rng.negative_binomial(5, 0.2, 120)),
        (1.0, rng.poisson(np.repeat([20, 60], 60))),  # a change of level is not dispersion
    ):
        state = run([float(count) / 10 for count in seconds for _ in range(10)])[0]
        assert state["dispersion"] == pytest.approx(true, rel=0.4)


def test_one_second_with_the_backlog_of_an_outage_hardly_moves_the_dispersion() -> None:
    assert run([4.0] * 600 + [600.0] * 10 + [4.0] * 10)[0]["dispersion"] < 4


def test_what_is_not_yet_known_is_not_a_number() -> None:
    assert run([5] * 10)[0]["dispersion"] == arrivals.DISPERSION_GUESS, "one second says nothing"
    assert np.isnan(run([0] * 200)[0]["dispersion"]), "of nothing, nothing is known"
    nothing = outlook((arrivals.nothing_seen(1)[0], methods.nothing_learned(1)[0]))
    assert np.isnan(arrivals.mean_rps(nothing, SECOND, 1.0))


def test_a_second_not_wholly_known_moves_nothing() -> None:
    state, learned = run([10] * 100)
    before = outlook((state, learned))
    arrivals.add(state, np.nan, 0.0)
    arrivals.close_second(state)
    methods.close_second(learned, state, 11, LEAD_S)
    assert outlook((state, learned)).points == pytest.approx(before.points)
    assert np.isnan(state["counts"][state["newest"]])
    assert state["partial"] == 0, "the next second is whole again"
