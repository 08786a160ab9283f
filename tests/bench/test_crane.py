"""Crane by hand: gocrane/crane pkg/prediction/{dsp,accuracy}, pkg/metricprovider."""

from math import ceil, log

import numpy as np
import pytest

from bench.policies.autoscaler import Floats, Sample
from bench.policies.crane import Crane, CraneSetting
from bench.policies.dsp import DAY, Estimator, error_of, forecast, period_of
from bench.policies.hpa import Hpa, HpaSetting
from tests.bench.cases import a_case

S = 1000.0
HOUR = 60


def waves(days: float, *parts: tuple[float, float], mean: float = 100.0) -> Floats:
    """Sums of sines, each an amplitude and how often in a day, a value a minute."""
    minute = np.arange(round(days * DAY))
    sines = [size * np.sin(2 * np.pi * times * minute / DAY) for size, times in parts]
    return mean + np.sum(sines, axis=0)


def test_a_day_is_found_under_noise_and_noise_alone_has_no_period() -> None:
    rng = np.random.default_rng(1)
    for days in (2, 5, 14):
        assert period_of(waves(days, (30, 1)) + rng.normal(0, 20, days * DAY)) == DAY
    assert period_of(rng.normal(100, 20, 5 * DAY)) is None
    assert period_of(np.full(5 * DAY, 3.0)) is None


def test_other_periods_are_found_too_but_no_forecast_is_made_of_them() -> None:
    past = waves(5, (30, 3))
    assert period_of(past) == DAY // 3
    crane = Crane(a_case(past_rps=past), CraneSetting(1.0))
    crane.see(Sample(10 * S, 0, 10, 0, 1))
    assert crane.desired(30 * S, 1, 1) == 1


def test_a_fast_and_small_wave_is_left_out_and_a_margin_added() -> None:
    slow = waves(3, (20, 1), (16, 2), (12, 3))
    fast = waves(3, (0.8, 144), mean=0.0)
    found = Estimator(3, 1.0, 0.1).next_period(slow + fast, DAY)
    assert found == pytest.approx(1.1 * slow[:DAY], rel=1e-6)
    # An amplitude of 0.4 is above the cut of the other estimators.
    kept = Estimator(50, 0.05, 0.1).next_period(slow + fast, DAY)
    assert kept == pytest.approx(1.1 * (slow + fast)[:DAY], rel=1e-6)


def test_what_is_too_low_counts_more_and_near_zero_errors_are_absolute() -> None:
    low = -log(0.5) / log(1.25)
    assert error_of(np.array([2.0, 2.0]), np.array([3.0, 1.0])) == pytest.approx((0.5 + low) / 2)
    assert error_of(np.array([0.0, 2.0]), np.array([1.0, 1.0])) == 1


def test_the_forecast_of_days_alike_is_such_a_day_with_the_smallest_margin() -> None:
    past = waves(4, (30, 1), (20, 2), (10, 3))
    assert forecast(past, DAY) == pytest.approx(1.01 * past[:DAY], rel=1e-6)
    assert len(forecast(past[: DAY + 5], DAY)) == 0


@pytest.mark.parametrize("window_min", [10, 60])
def test_the_most_of_the_window_is_made_ready(window_min: int) -> None:
    past = waves(4, (30, 1), (20, 2), (10, 3))
    crane = Crane(a_case(past_rps=past), CraneSetting(0.8, window_ms=60 * S * window_min))
    crane.see(Sample(10 * S, 0, 10, 0, 10))
    most_rps = 1.01 * past[: window_min + 1].max()
    assert crane.desired(30 * S, 10, 10) == ceil(most_rps / 8)
    later = 1.01 * past[HOUR : HOUR + window_min + 1].max()
    assert crane.desired(3600 * S, 10, 10) == ceil(later / 8)


@pytest.mark.parametrize("past", [np.zeros(0), waves(1.9, (30, 1)), np.full(4 * DAY, 50.0)])
def test_without_a_period_or_48_hours_it_is_the_hpa(past: Floats) -> None:
    crane, hpa = Crane(a_case(past_rps=past), CraneSetting(0.8)), Hpa(a_case(), HpaSetting(0.8))
    for i, held in enumerate((10, 30, 60, 20, 20)):
        at_ms = 15 * S * (i + 1)
        for scaler in (crane, hpa):
            scaler.see(Sample(at_ms - 5 * S, 0, held, 0, 4))
        assert crane.desired(at_ms, 4, 4) == hpa.desired(at_ms, 4, 4)


def test_the_requests_of_the_last_minute_count_too() -> None:
    crane = Crane(a_case(), CraneSetting(0.8))
    for at_s in range(0, 121, 15):
        crane.see(Sample(at_s * S, 0, 0, 40 * at_s, 4))
    assert crane.desired(130 * S, 4, 4) == 5  # 40 / (0.8 x 10)


def test_what_was_seen_joins_the_history_of_the_next_fit() -> None:
    past = waves(2 - 6 / 24, (30, 1), (20, 2), (10, 3))
    whole = waves(3, (30, 1), (20, 2), (10, 3))
    crane = Crane(a_case(past_rps=past), CraneSetting(0.8))
    arrivals = 0.0
    for minute in range(12 * HOUR + 2):
        if minute:
            arrivals += 60 * whole[len(past) + minute - 1]
        crane.see(Sample(minute * 60 * S, 0, 0, round(arrivals), 4))
    now_ms = (12 * HOUR + 1) * 60 * S
    crane.desired(now_ms, 12, 12)
    begins = len(past) + 12 * HOUR + 1
    assert crane._foreseen[:HOUR] == pytest.approx(1.01 * whole[begins : begins + HOUR], rel=0.02)
