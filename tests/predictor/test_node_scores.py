from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import series
from services.predictor.core import node_scores
from services.predictor.core.columns import read_layout
from services.predictor.core.jit import Table
from services.predictor.core.node_scores import Weights

share = st.floats(0, 1)


def shares(cpu: float, memory: float, disk: float, network: float) -> Table:
    return np.array([(cpu, memory, disk, network, 1.0)], node_scores.SHARES)


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
    node_scores.see(seen, columns.of_node[0], before, now, 2.0)
    assert (seen["cpu"], seen["memory"], seen["network"]) == pytest.approx((0.75, 0.25, 0.15))
    assert np.isnan(seen["disk"])


def test_more_traffic_than_configured_is_the_new_measure(collector: Callable) -> None:
    host = collector("host", "n1")
    columns = read_layout(host.layout)
    before = host.sight().values
    host.add(series.HOST_NETWORK_BYTES, "n1", 5000.0)
    now = host.sight().values
    (seen,) = node_scores.nothing_seen(1, 1000)
    node_scores.see(seen, columns.of_node[0], before, now, 1.0)
    assert seen["network"] == 1.0
    assert seen["bandwidth"] == 5000
