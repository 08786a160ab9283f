"""HPA by hand, from kubernetes pkg/controller/podautoscaler/{horizontal,replica_calculator}.go."""

import pytest

from bench.policies.autoscaler import Sample
from bench.policies.hpa import Hpa, HpaSetting, of_pods, of_total
from tests.bench.cases import a_case

S = 1000.0


def a_sample(at_s: float, in_flight: int, queue: int = 0, ready: int = 2) -> Sample:
    return Sample(at_s * S, queue, in_flight, 0, ready)


@pytest.mark.parametrize(
    ("total", "target", "replicas", "ready", "wanted"),
    [
        (40, 10, 4, 4, 4),  # ratio 1
        (44, 10, 4, 4, 4),  # 1.1 is still within the tolerance
        (45, 10, 4, 4, 5),  # 1.125: ceil(1.125 x 4)
        (36, 10, 4, 4, 4),  # 0.9 as well
        (35, 10, 4, 4, 4),  # 0.875: ceil(3.5)
        (30, 10, 4, 4, 3),
        (0, 10, 4, 4, 0),
        # Two of four still load. 60 over two ready: ratio 3; with the others at 0 it is 1.5.
        (60, 10, 4, 2, 6),
        # 40 over two: ratio 2, with the others at 0 it is 1: within the tolerance, nothing moves.
        (40, 10, 4, 2, 4),
        # 30 over two: ratio 1.5, with the others 0.75: the direction flips, nothing moves.
        (30, 10, 4, 2, 4),
        # Too little to do: those that load are left out, ceil(0.5 x 2).
        (10, 10, 4, 2, 1),
    ],
)
def test_a_metric_of_pods_asks_for_the_ratio(
    total: float, target: float, replicas: int, ready: int, wanted: int
) -> None:
    assert of_pods(total, target, replicas, ready) == wanted


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
    hpa.see(a_sample(20, in_flight=10))
    assert hpa.desired(300 * S, 8, 8) == 8
    assert hpa.desired(301 * S, 8, 8) == 1


def test_a_new_autoscaler_keeps_what_it_finds_for_300_s() -> None:
    hpa = Hpa(a_case(1, 50), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=10))
    assert hpa.desired(30 * S, 6, 6) == 6
    assert hpa.desired(330 * S, 6, 6) == 6
    assert hpa.desired(345 * S, 6, 6) == 1


def test_the_bounds_hold() -> None:
    hpa = Hpa(a_case(2, 5), HpaSetting(util_target=1.0))
    hpa.see(a_sample(10, in_flight=900))
    assert hpa.desired(30 * S, 4, 4) == 5
    low = Hpa(a_case(2, 5), HpaSetting(util_target=1.0))
    low.see(a_sample(10, in_flight=0))
    assert low.desired(30 * S, 2, 2) == 2
