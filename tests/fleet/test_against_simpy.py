"""The fleet's model against the same case in SimPy: the same latencies, hundreds of times faster.

Replicas of one batch model each on a GPU of its own, requests to the one that holds the fewest.
The speed itself is measured by `python -m bench.speed`, on the same case.
"""

import numpy as np
import pytest

from bench.speed import in_simpy, in_the_model, wishes


@pytest.mark.parametrize("seed", range(3))
def test_both_give_each_request_the_same_latency(seed: int) -> None:
    due_ms = wishes(5_000, 5_000 * 3.6, seed)
    plain, _ = in_simpy(due_ms)
    ours, _ = in_the_model(due_ms, None)
    assert np.max(np.abs(plain - ours)) < 1e-6
