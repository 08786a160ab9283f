from math import nan
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.predictor.core import lifts as core
from services.predictor.core.lifts import PEAK_MS, ahead
from services.predictor.core.residuals import QUANTILES
from services.predictor.core.triggers import GAINS, KINDS, NOTHING_KNOWN, Lift

NOW_MS = 1_800_000_000_000
HORIZONS_MS = np.array((200.0, 1000.0, 5000.0, 60_000.0))
ONES = np.ones((len(KINDS), GAINS))


class Foreseen(NamedTuple):
    """A forecast: (H,), (H, Q) and (H, Q)."""

    mean: np.ndarray
    quantiles: np.ndarray
    peaks: np.ndarray


def lift(after_s: float, duration_s: float = 60, factor: float = 3.0, rate: float = 0.0) -> Lift:
    begin_ms = NOW_MS + round(1000 * after_s)
    return Lift(0, begin_ms, begin_ms + round(1000 * duration_s), rate, factor)


def flat(rate_rps: float = 10.0, margin: float = 0.5) -> Foreseen:
    """Quantiles and peaks that lie above the mean by rising differences of square roots."""
    above = np.linspace(0, margin, len(QUANTILES))
    quantiles = np.tile((np.sqrt(rate_rps) + above) ** 2, (len(HORIZONS_MS), 1))
    return Foreseen(np.full(len(HORIZONS_MS), rate_rps), quantiles, quantiles * 1.1)


def lifted(before: Foreseen, *lifts: Lift, gains: np.ndarray = ONES) -> Foreseen:
    after = Foreseen(*(part.copy() for part in before))
    table = core.table(list(lifts), NOW_MS)
    core.count_in(table, gains, core.ranks(QUANTILES), HORIZONS_MS, *after)
    return after


def test_the_mean_takes_a_lift_in_for_the_part_of_the_horizon_that_it_runs() -> None:
    mean = lifted(flat(), lift(30)).mean
    assert mean.tolist() == pytest.approx([10, 10, 10, (30 * 10 + 30 * 30) / 60])
    within = lifted(flat(), lift(10, duration_s=15)).mean
    assert within[-1] == pytest.approx((45 * 10 + 15 * 30) / 60)


def test_a_rate_is_the_whole_and_a_factor_is_times_what_would_have_come() -> None:
    assert lifted(flat(), lift(0, rate=25.0, factor=0)).mean == pytest.approx([25.0] * 4)
    assert lifted(flat(), lift(0)._replace(base_rps=8.0)).mean == pytest.approx([24.0] * 4)
    assert lifted(flat(), lift(0, rate=5.0, factor=0)).mean == pytest.approx([10.0] * 4)


def test_the_peak_covers_a_lift_that_begins_within_the_horizon() -> None:
    for within_s in (1, 10, 30, 60):
        peak = lifted(flat(), lift(60 - within_s)).peaks[-1, -1]
        margin = np.sqrt(flat().peaks[-1, -1]) - np.sqrt(10)
        assert peak == pytest.approx((np.sqrt(30) + margin) ** 2)
    part = lifted(flat(), lift(30, duration_s=5)).peaks[-1, 0]
    assert flat().peaks[-1, 0] < part < lifted(flat(), lift(30)).peaks[-1, 0]
    assert lifted(flat(), lift(59)).peaks[:-1] == pytest.approx(flat().peaks[:-1])


def test_where_lifts_overlap_the_highest_counts() -> None:
    both = lifted(flat(), lift(0, 60, 2.0), lift(30, 60, 5.0))
    assert both.mean[-1] == pytest.approx((30 * 20 + 30 * 50) / 60)


def test_a_lift_that_runs_adds_nothing_to_what_the_level_has_learned() -> None:
    running = lift(-30)._replace(base_rps=10.0)
    grown = flat(rate_rps=32.0)
    assert lifted(grown, running).mean == pytest.approx(grown.mean)


def test_times_what_nobody_knows_raises_nothing_and_a_rate_does_all_the_same() -> None:
    assert lifted(flat(), lift(-30)).mean == pytest.approx(flat().mean)
    assert lifted(flat(), lift(-30, 120, 0, 30.0)).mean == pytest.approx([30.0] * 4)


def test_what_came_higher_once_raises_the_quantiles_and_not_yet_the_mean() -> None:
    gains = ONES.copy()
    gains[0, -1] = 2.0
    once = lifted(flat(), lift(0), gains=gains)
    assert once.mean == pytest.approx(lifted(flat(), lift(0)).mean)
    assert once.quantiles[0, -1] == pytest.approx((np.sqrt(50) + 0.5) ** 2)
    gains[0] = 2.0
    assert lifted(flat(), lift(0), gains=gains).mean == pytest.approx([50.0] * 4)
    assert lifted(flat(), lift(0), gains=gains * 0).mean == pytest.approx(flat().mean)


def test_only_lifts_within_the_horizon_are_ahead() -> None:
    lifts = (lift(-100), lift(-30), lift(50), lift(60))
    plan = NOTHING_KNOWN._replace(lifts=lifts)
    assert ahead(plan, NOW_MS, 60_000) == [lifts[1], lifts[2]]
    assert ahead(plan, NOW_MS, 200) == [lifts[1]]


def test_without_a_lift_a_forecast_is_itself() -> None:
    before, after = flat(), lifted(flat())
    for old, new in zip(before, after, strict=True):
        assert new == pytest.approx(old)


def by_hand(
    before: Foreseen, lifts: list[Lift], row: int, step_ms: int = 100
) -> tuple[float, float]:
    """Mean and largest 10 s mean of the last quantile, by brute force over steps of time."""
    horizon_ms = int(HORIZONS_MS[row])
    times = NOW_MS + np.arange(0, horizon_ms + int(PEAK_MS), step_ms)
    lifts = [one for one in lifts if one.at_ms < NOW_MS + horizon_ms]
    margin = np.sqrt(before.peaks[row, -1]) - np.sqrt(before.mean[row])
    mean = np.full(len(times), before.mean[row])
    peak = np.full(len(times), before.peaks[row, -1])
    for one in lifts:
        runs = (times >= one.at_ms) & (times < one.until_ms)
        level = before.mean[row] * one.factor
        mean = np.where(runs, np.maximum(mean, level), mean)
        peak = np.where(runs, np.maximum(peak, (np.sqrt(level) + margin) ** 2), peak)
    window = int(PEAK_MS) // step_ms
    largest = max(peak[at : at + window].mean() for at in range(len(times) - window + 1))
    return float(mean[: horizon_ms // step_ms].mean()), float(largest)


LIFTS = st.lists(
    st.builds(
        lift,
        st.integers(0, 80),
        st.integers(1, 60),
        st.floats(1, 20),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)  # the first call compiles
@given(LIFTS)
def test_means_and_peaks_are_those_of_the_steps_one_by_one(lifts: list[Lift]) -> None:
    after = lifted(flat(), *lifts)
    for row in range(len(HORIZONS_MS)):
        mean, peak = by_hand(flat(), lifts, row)
        assert after.mean[row] == pytest.approx(mean)
        assert after.peaks[row, -1] == pytest.approx(peak)


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(
        st.builds(
            lambda after, long, factor, rate, base: lift(after, long, factor, rate)._replace(
                base_rps=base
            ),
            st.floats(-100, 80),
            st.floats(1, 600),
            st.floats(1, 1000),
            st.sampled_from((0.0, 0.1, 1e9)),
            st.sampled_from((nan, 0.0, 5.0)),
        ),
        max_size=6,
    ),
    st.floats(0, 1e6),
    st.lists(st.floats(0, 3), min_size=GAINS * 3, max_size=GAINS * 3),
)
def test_lifts_only_ever_raise_and_quantiles_stay_in_order(
    lifts: list[Lift], rate_rps: float, gains: list[float]
) -> None:
    before = flat(rate_rps)
    after = lifted(before, *lifts, gains=np.array(gains).reshape(len(KINDS), GAINS))
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all()
        assert (new >= old).all()
    for band in (after.quantiles, after.peaks):
        assert (np.diff(band, axis=1) >= -1e-9 * band[:, 1:]).all()
    more = lifted(before, *lifts, lift(0, 600, 2.0), gains=np.ones((len(KINDS), GAINS)))
    one_less = lifted(before, *lifts, gains=np.ones((len(KINDS), GAINS)))
    for fewer, all_of_them in zip(one_less, more, strict=True):
        assert (all_of_them >= fewer * (1 - 1e-9)).all(), "one lift more never lowers"


@settings(deadline=None)  # the first call compiles
@given(st.floats(1, 100), st.floats(1, 100), st.floats(0, 3), st.floats(0, 3), st.floats(-20, 80))
def test_a_higher_factor_or_gain_never_foresees_less(
    factor: float, more: float, gain: float, larger: float, after_s: float
) -> None:
    one = lift(after_s, factor=factor)._replace(base_rps=10.0)
    before = lifted(flat(), one, gains=ONES * gain)
    for changed, gains in ((one._replace(factor=factor + more), gain), (one, gain + larger)):
        after = lifted(flat(), changed, gains=ONES * gains)
        for old, new in zip(before, after, strict=True):
            assert (new >= old * (1 - 1e-12)).all()
