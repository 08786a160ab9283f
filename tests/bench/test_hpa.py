"""HPA by hand, from kubernetes pkg/controller/podautoscaler/{horizontal,replica_calculator}.go."""

import pytest

from bench.policies.autoscaler import Sample
from bench.policies.hpa import Behavior, Hpa, HpaSetting, of_pods, of_total
from tests.bench.cases import a_case

S = 1000.0


def a_sample(at_s: float, in_flight: int, queue: int = 0, ready: int = 2) -> Sample:
    return Sample(at_s * S, queue, in_flight, 0, ready)


@pytest.mark.parametrize(
    ("total", "replicas", "ready", "seen", "wanted"),
    [
        (40, 4, 4, 4, 4),  # ratio 1
        (44, 4, 4, 4, 4),  # 1.1 is still within the tolerance
        (45, 4, 4, 4, 5),  # 1.125: ceil(1.125 x 4)
        (36, 4, 4, 4, 4),  # 0.9 as well
        (35, 4, 4, 4, 4),  # 0.875: ceil(3.5)
        (30, 4, 4, 4, 3),
        (0, 4, 4, 4, 0),
        # Two of four still load. 60 over two ready: ratio 3; with the others at 0 it is 1.5.
        (60, 4, 2, 2, 6),
        # 40 over two: ratio 2, with the others at 0 it is 1: within the tolerance, nothing moves.
        (40, 4, 2, 2, 4),
        # 30 over two: ratio 1.5, with the others 0.75: the direction flips, nothing moves.
        (30, 4, 2, 2, 4),
        # Too little to do: those that load are left out, ceil(0.5 x 2).
        (10, 4, 2, 2, 1),
        # Two of four are ready since the scrape. 60 over two: ratio 3; with those at 0 it is 1.5.
        (60, 4, 4, 2, 6),
        # 8 over two: ratio 0.4; with those at their target it is 28 / 40: ceil(0.7 x 4).
        (8, 4, 4, 2, 3),
        # 16 over two: ratio 0.8; with those at their target it is 0.9: within the tolerance.
        (16, 4, 4, 2, 4),
        # None has the metric, or there is none: nothing moves by it.
        (60, 4, 0, 0, 4),
        (60, 4, 4, 0, 4),
        (60, 0, 0, 0, 0),
    ],
)
def test_a_metric_of_pods_asks_for_the_ratio(
    total: float, replicas: int, ready: int, seen: int, wanted: int
) -> None:
    assert of_pods(total, 10, replicas, ready, seen) == wanted


@pytest.mark.parametrize(
    ("value", "target", "replicas", "wanted"),
    [(100, 10, 10, 10), (109, 10, 10, 10), (112, 10, 10, 12), (0, 10, 3, 0), (5, 10, 0, 1)],
)
def test_an_external_metric_asks_for_a_target_each(
    value: float, target: float, replicas: int, wanted: int
) -> None:
    assert of_total(value, target, replicas) == wanted


def test_without_a_metric_nothing_moves() -> None:
    assert Hpa(a_case(1, 50)).desired(15 * S, 3, 3) == 3


def test_the_larger_of_both_metrics_counts() -> None:
    hpa = Hpa(a_case(1, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=20, queue=0))
    assert hpa.desired(30 * S, 2, 2) == 2
    # 20 run and 20 wait: 40 / 10 over two is ratio 2, so 4; the queue alone asks for 2.
    hpa.see(a_sample(25, in_flight=20, queue=20))
    assert hpa.desired(45 * S, 2, 2) == 4
    # 80 wait and none runs: 8 by the queue, which is more than twice 2 or 4.
    hpa.see(a_sample(40, in_flight=0, queue=80))
    assert hpa.desired(60 * S, 2, 2) == 4


def test_one_sync_at_most_doubles_or_takes_four() -> None:
    hpa = Hpa(a_case(1, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=300, ready=1))
    assert hpa.desired(30 * S, 1, 1) == 4
    assert hpa.desired(45 * S, 4, 4) == 8
    assert hpa.desired(60 * S, 8, 8) == 16


def test_fewer_are_taken_only_after_300_s_of_wanting_fewer() -> None:
    hpa = Hpa(a_case(1, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=80))
    assert hpa.desired(0.0, 4, 4) == 8
    hpa.see(a_sample(20, in_flight=10, ready=8))
    assert hpa.desired(300 * S, 8, 8) == 8
    assert hpa.desired(301 * S, 8, 8) == 1


def test_a_new_autoscaler_keeps_what_it_finds_for_300_s() -> None:
    hpa = Hpa(a_case(1, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=10, ready=6))
    assert hpa.desired(30 * S, 6, 6) == 6
    assert hpa.desired(315 * S, 6, 6) == 6
    assert hpa.desired(330 * S, 6, 6) == 1


def test_the_bounds_hold() -> None:
    hpa = Hpa(a_case(2, 5), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=900))
    assert hpa.desired(30 * S, 4, 4) == 5
    low = Hpa(a_case(2, 5), HpaSetting(util_target=1.0))
    low.see(a_sample(10, in_flight=0))
    assert low.desired(30 * S, 2, 2) == 2


def a_behaved(behavior: Behavior, low: int = 1) -> Hpa:
    return Hpa(a_case(low, 50), HpaSetting(1.0, behavior))


def test_by_default_a_behavior_adds_four_or_as_many_in_15_s() -> None:
    hpa = a_behaved(Behavior())
    hpa.see(a_sample(10, in_flight=300, ready=1))
    assert hpa.desired(30 * S, 1, 1) == 5
    assert hpa.desired(45 * S, 5, 5) == 10
    assert hpa.desired(60 * S, 10, 10) == 20


def test_what_was_added_within_the_period_counts_towards_the_step() -> None:
    hpa = a_behaved(Behavior(period_ms=60 * S))
    hpa.see(a_sample(10, in_flight=300, ready=1))
    assert hpa.desired(30 * S, 1, 1) == 5
    assert hpa.desired(45 * S, 5, 5) == 5  # the period began with 1
    assert hpa.desired(90 * S, 5, 5) == 10


def test_a_behavior_may_let_only_a_part_go_in_a_period() -> None:
    hpa = a_behaved(Behavior(down_share=0.1, period_ms=60 * S, down_window_ms=0.0))
    hpa.see(a_sample(10, in_flight=10, ready=10))
    assert hpa.desired(30 * S, 10, 10) == 9
    assert hpa.desired(45 * S, 9, 9) == 9
    assert hpa.desired(90 * S, 9, 9) == 8  # int(8.1)


def test_windows_of_a_behavior_take_the_least_before_more_and_the_most_before_fewer() -> None:
    hpa = a_behaved(Behavior(up_window_ms=30 * S, down_window_ms=60 * S))
    for at_s, in_flight, wanted in ((30, 40, 4), (45, 80, 4), (60, 80, 4), (75, 80, 8)):
        hpa.see(a_sample(at_s - 20, in_flight, ready=4))
        assert hpa.desired(at_s * S, 4, 4) == wanted, at_s
    for at_s, wanted in ((90, 8), (135, 8), (150, 1)):
        hpa.see(a_sample(at_s - 20, 10, ready=8))
        assert hpa.desired(at_s * S, 8, 8) == wanted, at_s


def test_where_zero_is_allowed_the_last_goes_and_the_queue_brings_it_back() -> None:
    hpa = Hpa(a_case(0, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=0, ready=1))
    assert hpa.desired(30 * S, 1, 1) == 1
    assert hpa.desired(345 * S, 1, 1) == 0
    hpa.see(a_sample(340, in_flight=0, queue=25, ready=0))
    assert hpa.desired(360 * S, 0, 0) == 3
