"""KEDA by hand, from kedacore/keda pkg/scaling/executor/scale_scaledobjects.go, and HPA's rule."""

import pytest

from bench.policies.autoscaler import Sample
from bench.policies.keda import Keda, KedaSetting
from tests.bench.cases import a_case

S = 1000.0


def a_keda(low: int = 1, high: int = 50, setting: KedaSetting = KedaSetting()) -> Keda:  # noqa: B008
    return Keda(a_case(low, high), setting)


def say(keda: Keda, at_s: float, lag: int) -> None:
    keda.see(Sample(at_s * S, lag - lag // 2, lag // 2, 0, 1))


@pytest.mark.parametrize(
    ("lag", "replicas", "wanted"),
    [
        (40, 4, 4),  # 40 / (10 x 4) = 1
        (44, 4, 4),  # 1.1 is within the tolerance
        (45, 4, 5),  # ceil(45 / 10)
        (71, 4, 8),  # ceil(71 / 10)
        (200, 4, 8),  # 20 would be, but at most twice as many at a time
        (200, 1, 4),  # or 4
    ],
)
def test_lag_over_the_threshold_is_wanted(lag: int, replicas: int, wanted: int) -> None:
    keda = a_keda()
    say(keda, 14.9, lag)
    assert keda.desired(15 * S, replicas, replicas) == wanted


def test_what_runs_is_lag_as_well_as_what_waits() -> None:
    keda = a_keda()
    keda.see(Sample(14.9 * S, 25, 20, 0, 4))
    assert keda.desired(15 * S, 4, 4) == 5


def test_a_threshold_may_be_what_a_replica_holds_at_a_part_of_its_rate() -> None:
    keda = a_keda(setting=KedaSetting(util_target=1.0))  # 10 requests
    say(keda, 14.9, 71)
    assert keda.desired(15 * S, 4, 4) == 8


def test_after_a_step_the_next_sync_grows_and_the_one_after_it_again() -> None:
    keda = a_keda()
    say(keda, 14.9, 10)
    assert keda.desired(15 * S, 1, 1) == 1
    say(keda, 29.9, 150)  # the step came at 16 s: it is answered after 14 s
    assert keda.desired(30 * S, 1, 1) == 4
    say(keda, 44.9, 150)
    assert keda.desired(45 * S, 4, 1) == 8  # those that still load count
    say(keda, 59.9, 150)
    assert keda.desired(60 * S, 8, 1) == 15


def test_fewer_come_after_300_s_of_less_lag() -> None:
    keda = a_keda()
    say(keda, 14.9, 80)
    assert keda.desired(15 * S, 4, 4) == 8
    say(keda, 29.9, 10)
    assert keda.desired(30 * S, 8, 8) == 8
    assert keda.desired(315 * S, 8, 8) == 8
    assert keda.desired(330 * S, 8, 8) == 1


def test_the_hpa_keeps_one_and_keda_takes_it_300_s_after_the_last_lag() -> None:
    keda = a_keda(low=0)
    say(keda, 29.9, 5)
    assert keda.desired(30 * S, 1, 1) == 1
    say(keda, 44.9, 0)
    for at_s in range(45, 345, 15):
        assert keda.desired(at_s * S, 1, 1) == 1
    # 330 s are not more than 300 s after 30 s; the next poll is at 360 s.
    assert keda.desired(345 * S, 1, 1) == 1
    assert keda.desired(360 * S, 1, 1) == 0


def test_from_none_one_comes_at_the_next_poll_of_30_s() -> None:
    keda = a_keda(low=0)
    say(keda, 14.9, 100)
    assert keda.desired(15 * S, 0, 0) == 0
    assert keda.desired(30 * S, 0, 0) == 1


def test_lag_beyond_the_partitions_does_not_count() -> None:
    keda = a_keda(high=5)  # as many partitions
    say(keda, 14.9, 1000)
    assert keda.desired(15 * S, 4, 4) == 5
    assert keda.desired(30 * S, 5, 5) == 5


def test_without_a_metric_nothing_moves() -> None:
    assert a_keda().desired(15 * S, 3, 3) == 3
