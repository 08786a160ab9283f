import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.series import LATENCY_BUCKETS, latency_bucket
from services.predictor.core import latency


def add(seen: np.ndarray, ratios: list[float], seconds_passed: int) -> np.ndarray:
    """The state after so many seconds and these ends; what went in stays."""
    later = seen.copy()
    latency.forget(later, seconds_passed)
    later[-1] += np.bincount([latency_bucket(r) for r in ratios], minlength=LATENCY_BUCKETS)
    return later


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(0.04, 6.0), min_size=1, max_size=200))
def test_the_percentile_is_within_a_bucket_of_the_exact_one(ratios: list[float]) -> None:
    seen = add(latency.nothing_seen(), ratios, 0)
    rank = int(np.ceil(0.98 * len(ratios) - 1e-9))
    exact = sorted(ratios)[rank - 1]
    assert latency.slo_ratio_p98(seen) == pytest.approx(exact, rel=2**0.25 - 1 + 1e-9)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(0.04, 6.0), min_size=1), st.floats(0.04, 6.0), st.floats(1, 8))
def test_a_slower_end_never_lowers_the_percentile(
    ratios: list[float], one: float, slower: float
) -> None:
    fast = add(latency.nothing_seen(), [*ratios, one], 0)
    slow = add(latency.nothing_seen(), [*ratios, one * slower], 0)
    assert latency.slo_ratio_p98(slow) >= latency.slo_ratio_p98(fast) - 1e-12


def test_what_is_older_than_six_seconds_is_forgotten() -> None:
    seen = add(latency.nothing_seen(), [4.0] * 100, 0)
    for _ in range(5):
        seen = add(seen, [0.5], 1)
    assert latency.slo_ratio_p98(seen) > 3
    assert latency.slo_ratio_p98(add(seen, [0.5], 1)) < 0.6
    assert np.isnan(latency.slo_ratio_p98(add(seen, [], 1000)))


def test_past_the_last_edge_the_percentile_is_that_edge() -> None:
    seen = add(latency.nothing_seen(), [100.0], 0)
    assert latency.slo_ratio_p98(seen) == pytest.approx(2**2.5 * 2**0.0, rel=0.2)
