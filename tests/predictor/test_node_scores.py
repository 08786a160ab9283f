from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common import series
from services.predictor.core import node_scores
from services.predictor.core.columns import read_layout
from services.predictor.core.jit import Table
from services.predictor.core.node_scores import Weights

share = st.floats(0, 1)


def shares(cpu: float, memory: float, disk: float, network: float) -> Table:
    state = node_scores.nothing_seen(1, bandwidth=1.0)
    for resource, value in zip(node_scores.RESOURCES, (cpu, memory, disk, network), strict=True):
        state[resource] = value
    return state


@given(share, share, share, share)
def test_the_score_is_the_weighted_sum(cpu: float, mem: float, disk: float, net: float) -> None:
    found = node_scores.scores(shares(cpu, mem, disk, net), Weights())[0]
    assert found == pytest.approx(0.4 * cpu + 0.3 * mem + 0.2 * disk + 0.1 * net)
    assert 0 <= found <= 1


def test_the_weight_of_what_is_not_known_goes_to_the_rest() -> None:
    found = node_scores.scores(shares(0.5, 0.2, np.nan, np.nan), Weights())[0]
    assert found == pytest.approx((0.4 * 0.5 + 0.3 * 0.2) / 0.7)


@pytest.mark.parametrize("unknown", [(np.nan, 0.5), (0.5, np.nan)])
def test_without_cpu_or_memory_there_is_no_score(unknown: tuple[float, float]) -> None:
    assert np.isnan(node_scores.scores(shares(*unknown, 0.1, 0.1), Weights())[0])


def test_busy_seconds_and_bytes_become_shares(collector: Callable) -> None:
    host = collector("host", "n1")
    columns = read_layout(host.layout)
    host.set(series.HOST_CPU_COUNT, "n1", 4)
    host.set(series.HOST_MEMORY_TOTAL, "n1", 100)
    host.set(series.HOST_MEMORY_USED, "n1", 25)
    before = host.sight().values
    host.add(series.HOST_CPU_BUSY_S, "n1", 6.0)
    host.add(series.HOST_NETWORK_BYTES, "n1", 300.0)
    now = host.sight().values
    (seen,) = node_scores.nothing_seen(1, bandwidth=1000)
    node_scores.see(seen, columns.of_node[0], before, now, 0, 2000)
    assert (seen["cpu"], seen["memory"], seen["network"]) == pytest.approx((0.75, 0.25, 0.15))
    assert np.isnan(seen["disk"])


def test_more_traffic_than_configured_is_the_measure_for_a_day(collector: Callable) -> None:
    host = collector("host", "n1")
    columns = read_layout(host.layout)
    (seen,) = node_scores.nothing_seen(1, 1000)

    def after(more_bytes: float, now_s: int) -> float:
        before = host.sight().values
        host.add(series.HOST_NETWORK_BYTES, "n1", more_bytes)
        at = columns.of_node[0]
        now_ms = 1000 * now_s
        node_scores.see(seen, at, before, host.sight().values, now_ms - 1000, now_ms)
        return float(seen["network"])

    assert after(5000, 1) == 1.0
    assert after(500, 2) == 0.1
    assert after(500, 86_400) == 0.5, "the faster hour is a day ago"


@settings(deadline=None)  # the first call compiles
@given(share, share, share, share)
def test_a_node_is_as_busy_as_its_busiest_resource(
    cpu: float, mem: float, disk: float, net: float
) -> None:
    assert node_scores.busiest(shares(cpu, mem, disk, net)[0]) == max(cpu, mem, disk, net)
    assert node_scores.busiest(shares(np.nan, mem, np.nan, net)[0]) == max(mem, net)
    assert np.isnan(node_scores.busiest(shares(*[np.nan] * 4)[0]))
