"""KPA by hand, from knative pkg/autoscaler/scaling/autoscaler.go and multiscaler.go."""

from bench.policies.autoscaler import Sample
from bench.policies.kpa import Kpa, KpaSetting
from tests.bench.cases import a_case

S = 1000.0


def a_kpa(low: int = 0, high: int = 500) -> Kpa:
    """The target is 10 requests for each replica."""
    return Kpa(a_case(low, high), KpaSetting(util_target=1.0))


def feed(kpa: Kpa, from_s: int, to_s: int, held: int) -> None:
    for second in range(from_s + 1, to_s + 1):
        kpa.see(Sample(second * S, 0, held, 0, 1))


def test_the_mean_of_60_s_over_the_target_is_wanted() -> None:
    kpa = a_kpa()
    kpa.desired(0.0, 1, 1)
    feed(kpa, 0, 60, 32)
    assert kpa.desired(60 * S, 4, 4) == 4  # ceil(3.2)
    feed(kpa, 60, 120, 50)
    assert kpa.desired(120 * S, 4, 4) == 5


def test_a_new_autoscaler_begins_in_panic_with_what_it_finds() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 60, 1)
    assert kpa.desired(60 * S, 4, 4) == 4
    feed(kpa, 60, 121, 1)
    assert kpa.desired(121 * S, 4, 4) == 2


def test_a_short_history_is_averaged_over_what_there_is() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 2, 30)
    assert kpa.desired(2 * S, 1, 1) == 3


def test_twice_what_is_ready_over_6_s_is_panic_and_takes_effect_at_once() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 60, 10)
    assert kpa.desired(60 * S, 1, 1) == 1
    feed(kpa, 60, 66, 40)
    # Over 6 s 40: 4 replicas, >= 2 x 1. Over 60 s (54 x 10 + 6 x 40) / 60 = 13: 2 replicas.
    assert kpa.desired(66 * S, 1, 1) == 4


def test_in_panic_never_fewer_and_it_ends_60_s_after_its_last_reason() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 6, 40)
    assert kpa.desired(6 * S, 1, 1) == 4
    feed(kpa, 6, 40, 1)
    assert kpa.desired(40 * S, 4, 4) == 4
    feed(kpa, 40, 66, 1)
    assert kpa.desired(66 * S, 4, 4) == 4  # 60 s, not more
    feed(kpa, 66, 68, 1)
    # (60 x 1) / 60 = 1 asks for 1, but at most half may go at a time.
    assert kpa.desired(68 * S, 4, 4) == 2


def test_the_last_replica_stays_until_a_stable_window_was_empty() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 60, 5)
    assert kpa.desired(60 * S, 1, 1) == 1
    feed(kpa, 60, 119, 0)
    assert kpa.desired(119 * S, 1, 1) == 1
    feed(kpa, 119, 121, 0)
    assert kpa.desired(121 * S, 1, 1) == 1
    feed(kpa, 121, 181, 0)
    assert kpa.desired(181 * S, 1, 1) == 0


def test_the_bounds_hold() -> None:
    kpa = a_kpa(low=2, high=3)
    feed(kpa, 0, 60, 900)
    assert kpa.desired(60 * S, 2, 2) == 3
    feed(kpa, 60, 200, 0)
    assert kpa.desired(200 * S, 3, 3) == 2


def test_the_last_replica_goes_a_grace_period_after_nothing_is_wanted() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 60, 5)
    kpa.desired(60 * S, 1, 1)
    feed(kpa, 60, 120, 0)
    assert kpa.desired(120 * S, 1, 1) == 1  # the window is empty: it turns idle
    assert kpa.desired(148 * S, 1, 1) == 1
    assert kpa.desired(150 * S, 1, 1) == 0
    feed(kpa, 120, 150, 0)
    feed(kpa, 150, 152, 12)
    assert kpa.desired(152 * S, 0, 0) == 1  # 4 over six seconds: ceil(0.4)


def test_what_comes_within_the_grace_period_begins_it_anew() -> None:
    kpa = a_kpa()
    feed(kpa, 0, 60, 5)
    kpa.desired(60 * S, 1, 1)
    feed(kpa, 60, 120, 0)
    assert kpa.desired(120 * S, 1, 1) == 1
    feed(kpa, 120, 121, 5)
    assert kpa.desired(122 * S, 1, 1) == 1
    feed(kpa, 121, 182, 0)
    assert kpa.desired(182 * S, 1, 1) == 1  # active for a stable window, now idle again
    assert kpa.desired(212 * S, 1, 1) == 0


def test_an_activation_scale_is_the_least_as_long_as_there_is_anything_to_do() -> None:
    kpa = Kpa(a_case(0, 50), KpaSetting(util_target=1.0, activation_scale=3))
    feed(kpa, 0, 60, 5)
    assert kpa.desired(60 * S, 1, 1) == 3
    feed(kpa, 60, 125, 0)
    assert kpa.desired(125 * S, 1, 1) == 1


def test_a_delay_takes_the_most_wanted_within_it() -> None:
    kpa = Kpa(a_case(1, 50), KpaSetting(util_target=1.0, scale_down_delay_ms=120 * S))
    feed(kpa, 0, 60, 40)
    assert kpa.desired(60 * S, 1, 1) == 4
    feed(kpa, 60, 170, 10)
    assert kpa.desired(170 * S, 4, 4) == 4
    assert kpa.desired(180 * S, 4, 4) == 4
    assert kpa.desired(182 * S, 4, 4) == 2  # at most half may go at a time


def test_by_requests_a_second_the_target_is_a_part_of_the_highest_rate() -> None:
    kpa = Kpa(a_case(1, 50), KpaSetting(util_target=0.5, metric="rps"))
    for second in range(1, 61):
        kpa.see(Sample(second * S, 900, 900, 17 * second, 1))
    assert kpa.desired(60 * S, 4, 4) == 4  # 17 / (0.5 x 10)
