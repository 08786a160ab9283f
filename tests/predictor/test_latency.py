import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.series import LATENCY_BUCKETS, latency_bucket
from services.predictor.core import latency


def ends(ratios: list[float]) -> np.ndarray:
    return np.bincount([latency_bucket(r) for r in ratios], minlength=LATENCY_BUCKETS)[None, :]


@given(st.lists(st.floats(0.04, 6.0), min_size=1, max_size=200))
def test_the_percentile_is_within_a_bucket_of_the_exact_one(ratios: list[float]) -> None:
    seen = latency.add(latency.nothing_seen(1), ends(ratios), 0)
    rank = int(np.ceil(0.98 * len(ratios) - 1e-9))
    exact = sorted(ratios)[rank - 1]
    assert latency.slo_ratio_p98(seen)[0] == pytest.approx(exact, rel=2**0.25 - 1 + 1e-9)


@given(st.lists(st.floats(0.04, 6.0), min_size=1), st.floats(0.04, 6.0), st.floats(1, 8))
def test_a_slower_end_never_lowers_the_percentile(
    ratios: list[float], one: float, slower: float
) -> None:
    fast = latency.add(latency.nothing_seen(1), ends([*ratios, one]), 0)
    slow = latency.add(latency.nothing_seen(1), ends([*ratios, one * slower]), 0)
    assert latency.slo_ratio_p98(slow)[0] >= latency.slo_ratio_p98(fast)[0] - 1e-12


def test_what_is_older_than_six_seconds_is_forgotten() -> None:
    seen = latency.add(latency.nothing_seen(1), ends([4.0] * 100), 0)
    for _ in range(5):
        seen = latency.add(seen, ends([0.5]), 1)
    assert latency.slo_ratio_p98(seen)[0] > 3
    assert latency.slo_ratio_p98(latency.add(seen, ends([0.5]), 1))[0] < 0.6
    assert np.isnan(latency.slo_ratio_p98(latency.add(seen, ends([]), 1000))[0])


def test_past_the_last_edge_the_percentile_is_that_edge() -> None:
    seen = latency.add(latency.nothing_seen(1), ends([100.0]), 0)
    assert latency.slo_ratio_p98(seen)[0] == pytest.approx(2**2.5 * 2**0.0, rel=0.2)
