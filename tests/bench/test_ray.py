"""Ray Serve by hand, from ray-project/ray python/ray/serve/autoscaling_policy.py."""

import pytest

from bench.policies.autoscaler import Sample
from bench.policies.ray import Ray, RaySetting
from tests.bench.cases import a_case

S = 1000.0
AT_ONCE = RaySetting(upscale_delay_ms=0.0, downscale_delay_ms=0.0)


def a_ray(setting: RaySetting = RaySetting(), low: int = 1, high: int = 50) -> Ray:  # noqa: B008
    return Ray(a_case(low, high), setting)


def record(ray: Ray, from_s: float, to_s: float, ongoing: int) -> None:
    """As its handles do, each half second."""
    for half in range(int(2 * from_s) + 1, int(2 * to_s) + 1):
        ray.see(Sample(half * 500.0, ongoing, 0, 0, 1))


def tick(ray: Ray, from_s: float, to_s: float, replicas: int) -> float | None:
    """Run the loop each 0.1 s; return when, in s, it first wanted another number."""
    for tenth in range(round(10 * from_s) + 1, round(10 * to_s) + 1):
        if ray.desired(tenth * 100.0, replicas, replicas) != replicas:
            return tenth / 10
    return None


@pytest.mark.parametrize(
    ("ongoing", "running", "setting", "wanted"),
    [
        (8, 4, AT_ONCE, 4),  # 8 / 2
        (9, 4, AT_ONCE, 5),  # ceil(4.5)
        (30, 4, AT_ONCE, 15),  # the whole step
        (5, 4, AT_ONCE, 3),  # ceil(2.5)
        (30, 4, AT_ONCE._replace(upscaling_factor=0.5), 10),  # ceil(4 + 0.5 x 11)
        (2, 4, AT_ONCE._replace(downscaling_factor=0.5), 3),  # ceil(4 - 0.5 x 3)
        (6, 4, AT_ONCE._replace(downscaling_factor=0.1), 3),  # ceil(3.9) is 4: one less
        (30, 4, AT_ONCE._replace(util_target=1.0), 3),  # 10 for each
        (400, 4, AT_ONCE, 50),  # the bounds
        (0, 4, AT_ONCE, 1),
    ],
)
def test_ongoing_requests_over_the_target_are_wanted(
    ongoing: int, running: int, setting: RaySetting, wanted: int
) -> None:
    ray = a_ray(setting)
    record(ray, 0, 10, ongoing)
    assert ray.desired(10 * S, running, running) == wanted


def test_a_step_is_answered_30_s_and_a_tick_after_the_push_that_shows_it() -> None:
    ray = a_ray()
    record(ray, 0, 30, 2)
    assert tick(ray, 30, 31, 1) is None
    record(ray, 30, 40, 20)  # a step at 30 s; the push at 40 s has the mean (20 x 20 + 40 x 2) / 60
    assert ray.desired(40 * S, 1, 1) == 1
    assert tick(ray, 40, 80, 1) == pytest.approx(70.0)
    assert ray.desired(70.1 * S, 4, 1) == 4  # the counter begins anew


def test_what_comes_between_two_pushes_is_not_seen() -> None:
    ray = a_ray(AT_ONCE)
    record(ray, 0, 10, 2)
    record(ray, 10, 19.5, 20)
    assert ray.desired(19.9 * S, 1, 1) == 1
    record(ray, 19.5, 20, 20)
    assert ray.desired(20 * S, 1, 1) == 6  # ceil((20 x 2 + 20 x 20) / 40 / 2)


def test_fewer_are_taken_after_600_s_and_a_tick() -> None:
    ray = a_ray()
    record(ray, 0, 10, 2)
    assert tick(ray, 10, 700, 4) == pytest.approx(10 + 600.1)


def test_a_tick_that_wishes_for_nothing_begins_the_count_anew() -> None:
    ray = a_ray()
    record(ray, 0, 10, 8)
    assert tick(ray, 10, 30, 1) is None
    record(ray, 10, 50, 2)  # after 40 s the mean has forgotten the 8
    assert ray.desired(50 * S, 1, 1) == 1
    record(ray, 50, 90, 8)
    assert tick(ray, 90, 130, 1) == pytest.approx(90 + 30.1)


def test_to_none_it_goes_from_one_alone() -> None:
    ray = a_ray(AT_ONCE, low=0)
    record(ray, 0, 40, 0)
    assert ray.desired(40 * S, 4, 4) == 1
    assert ray.desired(40.1 * S, 1, 1) == 0


def test_from_none_one_comes_at_the_next_push_without_delay() -> None:
    ray = a_ray(low=0)
    record(ray, 0, 10, 0)
    assert ray.desired(10 * S, 0, 0) == 0
    record(ray, 10, 20, 3)
    assert ray.desired(20 * S, 0, 0) == 1
    assert ray.desired(20.1 * S, 1, 0) == 1  # until it serves


def test_without_a_metric_nothing_moves() -> None:
    assert a_ray().desired(100.0, 3, 3) == 3
