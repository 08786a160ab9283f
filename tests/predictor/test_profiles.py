from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common import plimsoll_pb2 as pb
from services.predictor.core import day_max, profiles
from services.predictor.core.jit import Table
from services.predictor.core.profiles import HOUR_MS, HOURS

MIDNIGHT_MS = 1_800_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS
STEP_MS = 30_000
Share = Callable[[float], float]  # of the hour since midnight of the first day


def watched(share: Share, hours: float, state: Table | None = None, from_hour: float = 0) -> Table:
    state = profiles.nothing_seen(1) if state is None else state
    first, last = round(from_hour * HOUR_MS / STEP_MS), round(hours * HOUR_MS / STEP_MS)
    for step in range(first, last):
        now_ms = MIDNIGHT_MS + (step + 1) * STEP_MS
        value = share((step + 0.5) * STEP_MS / HOUR_MS)
        profiles.see(state[0], value, now_ms - STEP_MS, now_ms)
    return state


def profile(state: Table, hours: float) -> int:
    peak = profiles.day_peak(state, MIDNIGHT_MS + round(hours * HOUR_MS) + STEP_MS)
    return int(profiles.classify(peak)[0])


def day(low: float, high: float) -> Share:
    """High from 8 to 20 h, low at night."""
    return lambda hour: high if 8 <= hour % 24 < 20 else low


@pytest.mark.parametrize(
    ("share", "kind"),
    [
        (day(0.2, 0.9), pb.NodeScore.STEADY),
        (day(0.2, 0.85), pb.NodeScore.STEADY),
        (day(0.2, 0.6), pb.NodeScore.BETWEEN),
        (day(0.1, 0.4), pb.NodeScore.BURSTY),
        (day(0.0, 0.0), pb.NodeScore.BURSTY),
    ],
)
def test_the_profile_is_that_of_the_busiest_minute_of_a_day(share: Share, kind: int) -> None:
    assert profile(watched(share, 24.5), 24.5) == kind


def test_before_a_day_is_seen_the_profile_is_unknown() -> None:
    state = watched(day(0.2, 0.9), 23.9)
    assert profile(state, 23.9) == pb.NodeScore.UNKNOWN
    assert profiles.low_hours(profiles.hour_means(state, MIDNIGHT_MS + 23 * HOUR_MS))[0] == 0


def test_a_day_mostly_without_samples_is_not_a_day_seen() -> None:
    state = watched(day(0.2, 0.9), 10)
    state = watched(day(0.2, 0.9), 25, state, from_hour=23)
    assert profile(state, 25) == pb.NodeScore.UNKNOWN
    assert profile(watched(day(0.2, 0.9), 43, state, from_hour=25), 43) == pb.NodeScore.STEADY


def test_a_spike_of_one_sample_is_no_peak() -> None:
    spiky = watched(lambda hour: 1.0 if abs(hour - 12.004) < 0.004 else 0.1, 24.5)
    assert profile(spiky, 24.5) == pb.NodeScore.BETWEEN, "a minute of it was half busy"


def test_yesterdays_peak_is_forgotten_a_day_later() -> None:
    state = watched(day(0.2, 0.9), 24)
    assert profile(watched(day(0.2, 0.3), 44, state, from_hour=24), 44) == pb.NodeScore.BURSTY


def test_low_hours_are_those_whose_mean_is_low() -> None:
    state = watched(day(0.2, 0.9), 25)
    mean = profiles.hour_means(state, MIDNIGHT_MS + 25 * HOUR_MS)
    assert profiles.low_hours(mean)[0] == sum(1 << h for h in range(24) if not 8 <= h < 20)


def test_an_hours_mean_moves_half_way_with_each_day_and_less_with_gaps() -> None:
    state = watched(lambda _: 0.8, 24)
    state = watched(lambda hour: 0.4 if hour < 24.5 else np.nan, 26, state, from_hour=24)
    assert state["mean"][0, 0] == pytest.approx(0.8 - 0.5 * 0.5 * 0.4)
    assert state["mean"][0, 1] == pytest.approx(0.8)


def test_a_long_gap_tells_nothing() -> None:
    state = profiles.nothing_seen(1)
    profiles.see(state[0], 1.0, MIDNIGHT_MS, MIDNIGHT_MS + 90_000)
    assert state["hour_s"][0] == 0
    assert np.isnan(state["since_ms"][0])


def test_nodes_are_rows_that_know_nothing_of_each_other() -> None:
    state = profiles.nothing_seen(3)
    for minute in range(25 * 60):
        now_ms = MIDNIGHT_MS + (minute + 1) * 60_000
        for row, share in enumerate((0.9, np.nan, 0.1)):
            profiles.see(state[row], share, now_ms - 60_000, now_ms)
    kinds = profiles.classify(profiles.day_peak(state, MIDNIGHT_MS + 25 * HOUR_MS))
    assert kinds.tolist() == [pb.NodeScore.STEADY, pb.NodeScore.UNKNOWN, pb.NodeScore.BURSTY]
    low = profiles.low_hours(profiles.hour_means(state, MIDNIGHT_MS + 25 * HOUR_MS))
    assert low.tolist() == [0, 0, 2**HOURS - 1]


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(
        st.tuples(
            st.integers(1, 5 * HOUR_MS),
            st.one_of(st.just(np.nan), st.floats(0, 1)),
        ),
        max_size=60,
    )
)
def test_whatever_comes_every_figure_stays_a_share(ticks: list[tuple[int, float]]) -> None:
    state, now_ms = profiles.nothing_seen(1), MIDNIGHT_MS
    for elapsed_ms, share in ticks:
        now_ms += elapsed_ms
        profiles.see(state[0], share, now_ms - elapsed_ms, now_ms)
        for field in ("mean", "peak", "worth"):
            part = state[field]
            told = part[~np.isnan(part)]
            assert ((told >= 0) & (told <= 1 + 1e-12)).all()


# --- The largest of a day -------------------------------------------------------------------------


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(
        st.tuples(st.integers(1, 20 * HOUR_MS), st.one_of(st.just(np.nan), st.floats(0, 1e9))),
        max_size=40,
    )
)
def test_the_largest_of_a_day_is_that_of_the_running_hour_and_the_23_before(
    ticks: list[tuple[int, float]],
) -> None:
    by_hour, now_ms, seen = np.full(HOURS, np.nan), MIDNIGHT_MS, []
    for elapsed_ms, value in ticks:
        day_max.see(by_hour, value, now_ms, now_ms + elapsed_ms)
        now_ms += elapsed_ms
        seen.append((now_ms // HOUR_MS, value))
        recent = [v for hour, v in seen if hour > now_ms // HOUR_MS - HOURS and not np.isnan(v)]
        assert day_max.largest(by_hour) == pytest.approx(max(recent, default=np.nan), nan_ok=True)
