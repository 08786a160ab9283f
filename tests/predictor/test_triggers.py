from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.common.errors import ContractError
from libs.common.messages import LoadTrigger
from services.predictor.core import triggers
from services.predictor.core.triggers import (
    DAY_MS,
    GAIN_MAX,
    GAINS,
    KINDS,
    LIFTS_MAX,
    NOTHING_KNOWN,
    Lift,
    Plan,
    advance,
    announce,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
CRON = KINDS.index("cron")


def lift(at_ms: int, duration_s: float = 60, factor: float = 3.0, kind: int = CRON) -> Lift:
    return Lift(kind, at_ms, at_ms + round(1000 * duration_s), 0.0, factor)


def told(plan: Plan, *lifts: Lift) -> Plan:
    for one in lifts:
        plan, _ = announce(plan, one)
    return plan


def played(plan: Plan, until_ms: int, came_rps: float, base_rps: float = 10.0) -> Plan:
    """The plan after samples of a second each, from the newest one seen to `until_ms`."""
    for now_ms in range(plan.seen_ms + 1000, until_ms + 1, 1000):
        plan = advance(plan, now_ms, base_rps, came_rps, 1000)
    return plan


def at(now_ms: int) -> Plan:
    return advance(NOTHING_KNOWN, now_ms, 10.0, 10.0, 1000)


def test_what_was_announced_waits_until_its_time_is_over() -> None:
    plan = told(at(NOW_MS), lift(NOW_MS + 30_000))
    assert len(played(plan, NOW_MS + 89_000, 30.0).lifts) == 1
    assert played(plan, NOW_MS + 90_000, 30.0).lifts == ()


def test_the_part_that_came_is_of_the_rise_over_what_was_foreseen() -> None:
    seen = lift(NOW_MS)._replace(base_rps=10.0, came=60 * 25.0, known_ms=60_000.0)
    assert triggers.gain_of(seen) == pytest.approx((25 - 10) / (30 - 10))
    rated = seen._replace(rate_rps=40.0, factor=0.0)
    assert triggers.gain_of(rated) == pytest.approx((25 - 10) / (40 - 10))


def test_samples_that_lie_across_a_border_count_with_their_part() -> None:
    plan = told(at(NOW_MS), lift(NOW_MS + 500, duration_s=60))
    plan = advance(plan, NOW_MS + 1000, 10.0, 20.0, 1000)
    assert plan.lifts[0].came == 10.0
    assert plan.lifts[0].known_ms == 500


@pytest.mark.parametrize(
    ("came_rps", "gain"), [(30.0, 1.0), (10.0, 0.0), (20.0, 0.5), (500.0, GAIN_MAX), (0.0, 0.0)]
)
def test_a_lift_that_is_over_teaches_the_gain_of_its_kind(came_rps: float, gain: float) -> None:
    plan = played(told(at(NOW_MS), lift(NOW_MS + 1000)), NOW_MS + 70_000, came_rps)
    assert plan.gains[CRON].tolist() == pytest.approx([1.0] * (GAINS - 1) + [gain])
    assert (np.delete(plan.gains, CRON, axis=0) == 1).all(), "other kinds have gains of their own"


def test_one_false_alarm_hardly_counts_and_eight_are_forgotten_by_eight_true_ones() -> None:
    plan = at(NOW_MS)
    medians = []
    for number in range(16):
        begin_ms = plan.seen_ms + 1000 + number * 7000  # at no stable period
        plan = told(plan, lift(begin_ms))
        plan = played(plan, begin_ms + 61_000, 10.0 if number < 8 else 30.0)
        medians.append(float(np.median(plan.gains[CRON])))
    assert medians[:3] == [1, 1, 1]
    assert medians[4:11] == [0] * 7
    assert medians[12:] == [1] * 4


def test_what_was_not_seen_to_begin_teaches_nothing() -> None:
    late = told(at(NOW_MS), lift(NOW_MS - 20_000))
    assert isnan(played(late, NOW_MS + 1000, 30.0).lifts[0].base_rps)
    assert (played(late, NOW_MS + 60_000, 30.0).gains == 1).all()
    unknown = played(told(at(NOW_MS), lift(NOW_MS + 1000)), NOW_MS + 70_000, nan)
    assert (unknown.gains == 1).all()


def test_a_rise_that_chance_would_hide_teaches_nothing() -> None:
    plan = told(at(NOW_MS), lift(NOW_MS + 1000, factor=1.02))
    assert (played(plan, NOW_MS + 70_000, 500.0).gains == 1).all()


def test_a_repeated_trigger_changes_nothing_and_a_corrected_one_stands() -> None:
    plan, said = announce(at(NOW_MS), lift(NOW_MS + 30_000))
    assert said == "taken"
    again, said = announce(plan, lift(NOW_MS + 30_000))
    assert said == "repeated"
    assert again is plan
    corrected, said = announce(plan, lift(NOW_MS + 30_000, factor=5.0))
    assert said == "changed"
    assert [one.factor for one in corrected.lifts] == [5.0]
    over = played(plan, NOW_MS + 100_000, 30.0)
    assert announce(over, lift(NOW_MS + 30_000)) == (over, "repeated")


def test_what_was_over_when_it_came_is_late() -> None:
    plan, said = announce(at(NOW_MS), lift(NOW_MS - 60_000))
    assert said == "late"
    assert plan.lifts == ()


def test_a_flood_is_bounded_and_the_nearest_stay() -> None:
    plan, outcomes = at(NOW_MS), []
    for number in range(3 * LIFTS_MAX):
        plan, said = announce(plan, lift(NOW_MS + 1000 * (1 + number * number)))
        outcomes.append(said)
    assert len(plan.lifts) == LIFTS_MAX
    assert outcomes.count("crowded_out") == 2 * LIFTS_MAX
    near, _ = announce(plan, lift(NOW_MS + 500))
    assert near.lifts[0].at_ms == NOW_MS + 500


# --- What recurs ----------------------------------------------------------------------------------


def days(plan: Plan, count: int, hours: tuple[int, ...] = (8,), came_rps: float = 30.0) -> Plan:
    """Announce a lift an hour ahead on each of some days, and watch it come."""
    day_ms = (plan.seen_ms // DAY_MS + 1) * DAY_MS
    for number in range(count):
        for hour in hours:
            begin_ms = day_ms + number * DAY_MS + hour * HOUR_MS
            plan = told(skipped(plan, begin_ms - HOUR_MS), lift(begin_ms))
            plan = played(skipped(plan, begin_ms - 2000), begin_ms + 61_000, came_rps)
    return plan


def skipped(plan: Plan, to_ms: int) -> Plan:
    """The plan after one sample that ends a long time without any."""
    return advance(plan, to_ms, 10.0, nan, max(to_ms - plan.seen_ms, 1))


def test_what_came_three_days_at_the_same_time_is_foreseen_for_the_fourth() -> None:
    assert days(at(NOW_MS), 2).lifts == ()
    plan = days(at(NOW_MS), 3)
    (foreseen,) = plan.lifts
    assert not foreseen.announced
    assert foreseen.at_ms == plan.past_ms[CRON, -1] + DAY_MS
    assert foreseen.period_ms == DAY_MS
    assert (foreseen.factor, foreseen.until_ms - foreseen.at_ms) == (3.0, 60_000)


def test_two_jobs_a_day_recur_each_by_its_own_day() -> None:
    plan = days(at(NOW_MS), 3, hours=(8, 18))
    assert [one.at_ms % DAY_MS // HOUR_MS for one in plan.lifts] == [8, 18]
    assert {one.period_ms for one in plan.lifts} == {DAY_MS}


def test_announcing_what_is_foreseen_does_not_make_two_of_it() -> None:
    plan = days(at(NOW_MS), 3)
    (foreseen,) = plan.lifts
    plan, said = announce(plan, lift(foreseen.at_ms + 4000, factor=4.0))
    (stands,) = plan.lifts
    assert said == "taken"
    assert stands.announced
    assert (stands.factor, stands.period_ms) == (4.0, DAY_MS)


def test_what_recurs_is_foreseen_again_when_it_came_unannounced_and_dropped_after_two_misses() -> (
    None
):
    plan = days(at(NOW_MS), 3)

    def next_day(plan: Plan, came_rps: float) -> Plan:
        begin_ms = plan.lifts[0].at_ms
        return played(skipped(plan, begin_ms - 2000), begin_ms + 61_000, came_rps)

    plan = next_day(plan, 30.0)
    assert plan.lifts[0].misses == 0
    plan = next_day(plan, 10.0)
    assert plan.lifts[0].misses == 1
    plan = next_day(plan, 30.0)
    assert plan.lifts[0].misses == 0
    plan = next_day(next_day(plan, 10.0), 10.0)
    assert plan.lifts == ()
    assert plan.gains[CRON].tolist() == [1.0] * GAINS, "what nobody announced teaches no gain"


def test_days_that_nobody_watched_are_no_misses() -> None:
    plan = days(at(NOW_MS), 3)
    begin_ms = plan.lifts[0].at_ms
    plan = skipped(plan, begin_ms + 5 * DAY_MS + HOUR_MS)
    assert plan.lifts[0].at_ms == begin_ms + 6 * DAY_MS
    assert plan.lifts[0].misses == 0


def test_times_without_a_period_foresee_nothing() -> None:
    plan = at(NOW_MS)
    for offset_s in (100, 300, 700, 1500, 3100, 6300):
        begin_ms = NOW_MS + 1000 * offset_s
        plan = played(told(plan, lift(begin_ms)), begin_ms + 61_000, 30.0)
    assert plan.lifts == ()


# --- What cannot be true --------------------------------------------------------------------------


def said(**fields: object) -> LoadTrigger:
    whole = {"model": "chat", "at_ms": NOW_MS, "factor": 3, "duration_s": 60, **fields}
    return LoadTrigger.model_validate(whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"factor": None},
        {"expected_rate_rps": 5.0},
        {"factor": 0.5},
        {"factor": 1e9},
        {"factor": None, "expected_rate_rps": -1},
        {"duration_s": 0},
        {"duration_s": 1e9},
        {"duration_s": None},
        {"kind": "hope"},
        {"at_ms": -1},
        {"at_ms": 1e300},
    ],
)
def test_a_trigger_that_says_nothing_or_too_much_breaks_the_contract(
    fields: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        said(**fields)


def test_a_trigger_is_read_as_a_lift() -> None:
    assert triggers.read(said(kind="app"), NOW_MS - 1000) == lift(NOW_MS, kind=KINDS.index("app"))
    rated = triggers.read(said(factor=None, expected_rate_rps=7), NOW_MS)
    assert (rated.rate_rps, rated.factor) == (7.0, 0.0)


@pytest.mark.parametrize(
    ("said_ms", "reason"),
    [(NOW_MS + 60_000, "was said later"), (NOW_MS - 9 * DAY_MS, r"9\.0 days ahead")],
)
def test_what_was_over_or_is_far_ahead_when_said_is_refused(said_ms: int, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        triggers.read(said(), said_ms)


# --- Whatever comes -------------------------------------------------------------------------------

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("said"), st.integers(-5, 40), st.integers(1, 400), st.floats(1, 1000)),
        st.tuples(
            st.just("seen"),
            st.integers(1, 10),
            st.one_of(st.just(nan), st.floats(0, 1e9)),
            st.one_of(st.just(nan), st.floats(0, 1e9)),
        ),
    ),
    max_size=80,
)


def lived(events: list[tuple[str, int, float, float]]) -> list[Plan]:
    plan, plans = at(NOW_MS), []
    for name, first, second, third in events:
        if name == "said":
            one = lift(plan.seen_ms + 60_000 * first, second, third, first % len(KINDS))
            plan, _ = announce(plan, one)
        else:
            plan = advance(plan, plan.seen_ms + 60_000 * first, second, third, 60_000 * first)
        plans.append(plan)
    return plans


@given(EVENTS)
def test_whatever_comes_a_plan_stays_bounded_in_order_and_a_replay_gives_the_same(
    events: list[tuple[str, int, float, float]],
) -> None:
    first, second = lived(events), lived(events)
    assert repr(first) == repr(second)
    for plan in first:
        assert len(plan.lifts) <= LIFTS_MAX
        assert [one.at_ms for one in plan.lifts] == sorted(one.at_ms for one in plan.lifts)
        after = advance(plan, plan.seen_ms + 1, nan, nan, 1)
        assert all(one.until_ms > after.seen_ms for one in after.lifts), "what is over goes"
        assert ((plan.gains >= 0) & (plan.gains <= GAIN_MAX)).all()
        assert (np.diff(plan.past_ms, axis=1) >= 0).all()
        assert all(one.misses < triggers.MISSES_MAX for one in plan.lifts)
