"""AIBrix' APA by hand, from vllm-project/aibrix pkg/controller/podautoscaler/algorithm/apa.go.

What pends: autoscaler.go, applyPendingReplicaGuard; the cooldown: podautoscaler_controller.go,
stabilizeRecommendation.
"""

import pytest

from bench.policies.aibrix import Aibrix, AibrixSetting
from bench.policies.autoscaler import Engine, Sample
from tests.bench.cases import a_case

S = 1000.0
FULL = AibrixSetting(util_target=1.0)  # 10 requests for each replica


def an_apa(setting: AibrixSetting = FULL, low: int = 1, high: int = 50) -> Aibrix:
    return Aibrix(a_case(low, high), setting)


def look(apa: Aibrix, at_s: float, each: int, ready: int) -> None:
    """So many requests at each replica that serves."""
    apa.see(Sample(at_s * S, 0, each * ready, 0, ready))


@pytest.mark.parametrize(
    ("each", "replicas", "wanted"),
    [
        (10, 4, 4),
        (11, 4, 4),  # 1.1 is within the tolerance
        (12, 4, 5),  # ceil(4 x 1.2)
        (30, 4, 8),  # 12, but at most twice as many
        (9, 4, 4),
        (8, 4, 4),  # ceil(4 x 0.8) is 4
        (7, 4, 3),  # ceil(2.8)
        (1, 9, 4),  # 1, but at least half as many: floor(9 / 2)
        (0, 1, 1),  # scaling to zero is off
    ],
)
def test_the_mean_of_the_pods_over_the_target_is_the_ratio(
    each: int, replicas: int, wanted: int
) -> None:
    apa = an_apa()
    look(apa, 10, each, replicas)
    assert apa.desired(10 * S, replicas, replicas) == wanted


def test_the_metric_is_the_mean_over_180_s() -> None:
    apa = an_apa()
    for at_s in range(10, 190, 10):
        look(apa, at_s, 10 if at_s <= 90 else 14, 4)
    assert apa.desired(180 * S, 4, 4) == 5  # 12 in the mean
    for at_s in range(190, 280, 10):
        look(apa, at_s, 14, 4)
    assert apa.desired(270 * S, 5, 5) == 7  # 14: ceil(7.0)


def test_after_a_step_it_grows_only_when_the_mean_has_followed() -> None:
    apa = an_apa()
    wanted = []
    for at_s in range(10, 250, 10):
        look(apa, at_s, 10 if at_s <= 180 else 16, 4)
        wanted.append(apa.desired(at_s * S, 4, 4))
    # From 190 s on each sample adds 6 / 18: the fourth lifts the mean above 11.
    assert wanted.index(5) == 21
    assert wanted[20:22] == [4, 5]


def test_of_an_llm_the_metric_may_be_its_cache() -> None:
    apa = an_apa(AibrixSetting(kv_target=0.5))
    engines = tuple(Engine(3, 0, share, 0) for share in (0.9, 0.7))
    apa.see(Sample(10 * S, 0, 6, 0, 2, engines=engines))
    assert apa.desired(10 * S, 2, 2) == 4  # 0.8 / 0.5 x 2 = 3.2


def test_pods_that_pend_count_as_idle_when_it_grows() -> None:
    apa = an_apa()
    look(apa, 10, 30, 2)
    # Two of four serve 30 each. Twice as many would be 8; ceil(3 x 2) = 6.
    assert apa.desired(10 * S, 4, 2) == 6
    apa = an_apa()
    look(apa, 10, 15, 2)
    assert apa.desired(10 * S, 4, 2) == 4  # ceil(1.5 x 2) is fewer than there are: none


def test_pods_that_pend_count_as_at_the_target_when_it_shrinks() -> None:
    apa = an_apa()
    look(apa, 10, 5, 2)
    assert apa.desired(10 * S, 4, 2) == 3  # 0.5 x 2 + 2, where 2 would be without them


def test_as_coded_the_smallest_wish_of_300_s_comes_back_at_once() -> None:
    apa = an_apa(FULL._replace(window_ms=10_000.0))
    look(apa, 10, 5, 4)
    assert apa.desired(10 * S, 4, 4) == 2
    look(apa, 20, 20, 4)
    assert apa.desired(20 * S, 4, 4) == 8
    look(apa, 30, 8, 8)
    assert apa.desired(30 * S, 8, 8) == 2  # 7 are wished for, but 2 were 20 s ago


def test_as_coded_that_wish_is_forgotten_after_300_s() -> None:
    apa = an_apa(FULL._replace(window_ms=10_000.0))
    look(apa, 10, 5, 4)
    assert apa.desired(10 * S, 4, 4) == 2
    look(apa, 310, 8, 8)
    assert apa.desired(310 * S, 8, 8) == 7


def test_mended_the_largest_wish_of_300_s_holds() -> None:
    apa = an_apa(FULL._replace(window_ms=10_000.0, mended=True))
    look(apa, 10, 20, 4)
    assert apa.desired(10 * S, 4, 4) == 8
    for at_s in range(20, 310, 10):
        look(apa, at_s, 5, 8)
        assert apa.desired(at_s * S, 8, 8) == 8
    look(apa, 310, 5, 8)
    assert apa.desired(310 * S, 8, 8) == 4


def test_mended_a_new_one_keeps_what_it_finds_for_300_s() -> None:
    apa = an_apa(FULL._replace(mended=True))
    look(apa, 10, 1, 6)
    assert apa.desired(10 * S, 6, 6) == 6
    look(apa, 310, 1, 6)
    assert apa.desired(310 * S, 6, 6) == 3


def test_without_a_metric_or_a_replica_nothing_moves() -> None:
    assert an_apa().desired(10 * S, 3, 3) == 3
    apa = an_apa(low=0)
    look(apa, 10, 5, 2)
    assert apa.desired(20 * S, 0, 0) == 0  # scaling is off where there is none


def test_the_bounds_hold() -> None:
    apa = an_apa(low=3, high=5)
    look(apa, 10, 90, 4)
    assert apa.desired(10 * S, 4, 4) == 5
    apa = an_apa(low=3, high=5)
    look(apa, 10, 0, 4)
    assert apa.desired(10 * S, 4, 4) == 3
