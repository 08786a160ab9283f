import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.figures import at_lead_time, increase, quantile, quantile_of_buckets, wape
from libs.common import plimsoll_pb2 as pb
from libs.common.series import LATENCY_BUCKETS, LATENCY_RATIO_EDGES, latency_bucket

ratios = st.lists(st.floats(0.001, 6.5), min_size=1, max_size=200)


@given(ratios, st.floats(0.01, 1.0))
def test_a_quantile_of_buckets_lies_in_the_bucket_of_the_true_one(
    values: list[float], q: float
) -> None:
    counts = np.bincount([latency_bucket(v) for v in values], minlength=LATENCY_BUCKETS) * 1.0
    found = quantile_of_buckets(counts, LATENCY_RATIO_EDGES, q)
    true = np.quantile(values, q, method="inverted_cdf")
    assert found is not None
    assert abs(latency_bucket(found) - latency_bucket(true)) <= 1


def test_a_quantile_is_linear_within_its_bucket() -> None:
    edges = np.array([1.0, 2.0, 4.0])
    assert quantile_of_buckets(np.array([0.0, 10.0, 0.0, 0.0]), edges, 0.5) == 1.5
    assert quantile_of_buckets(np.array([5.0, 5.0, 0.0, 0.0]), edges, 0.5) == 1.0


def test_what_lies_in_the_open_bucket_is_without_bound_and_nothing_has_no_quantile() -> None:
    edges = np.array([1.0])
    assert quantile_of_buckets(np.array([1.0, 9.0]), edges, 0.99) == math.inf
    assert quantile_of_buckets(np.array([0.0, 0.0]), edges, 0.99) is None


def test_a_quantile_of_values_keeps_infinite_ones_whole() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0, math.inf], 0.99) == math.inf
    assert quantile([1.0, math.inf], 0.5) == 1.0
    assert quantile([], 0.5) is None


def test_a_counter_that_fell_was_restarted() -> None:
    assert increase(5.0, 7.0) == 2.0
    assert increase(5.0, 3.0) == 3.0


def test_wape_weighs_errors_by_what_came() -> None:
    assert wape([(10.0, 8.0), (0.0, 2.0)]) == pytest.approx(0.4)
    assert wape([(3.0, 0.0)]) is None
    assert wape([]) is None


def test_the_horizon_nearest_the_lead_time_is_taken() -> None:
    forecast = pb.LoadForecast(
        horizon_ms=[200, 5_000, 15_000], lead_time_ms={"a": 3_000, "b": 6_000}
    )
    assert at_lead_time(forecast) == 1
    assert at_lead_time(pb.LoadForecast(horizon_ms=[200, 5_000])) == 1
    assert at_lead_time(pb.LoadForecast()) is None
