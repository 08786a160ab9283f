"""What comes out when decisions act on the fleet that they see, over minutes of virtual time."""

import numpy as np
import pytest

from libs.common.messages import PlaceReplica, ScaleModel, SetBatch
from services.load.core.arrivals import Arrivals, Plan, merge
from services.load.core.synthetic import CLIENTS, OTHERS, generate
from tests.scheduler.closed_loop import Loop
from tests.scheduler.fleets import of_kind

RATES_RPS = {"chat": 6.0, "vision": 25.0, "embed": 40.0, "rerank": 15.0}  # as in the demo
MINUTE_MS = 60_000.0
LOADED_MS = 20_000.0  # by then, each model has its first replica


def bursty(duration_ms: float, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    return merge(
        {
            model: generate(CLIENTS.get(model, OTHERS), rate_rps, duration_ms, rng)
            for model, rate_rps in RATES_RPS.items()
        }
    )


def even(duration_ms: float) -> Plan:
    """Each model's requests at the same distance from one another."""
    arrivals = {}
    for model, rate_rps in RATES_RPS.items():
        at_ms = np.arange(0.5, rate_rps * duration_ms / 1000) * 1000 / rate_rps
        none = np.zeros(len(at_ms), np.int64)
        arrivals[model] = Arrivals(at_ms, none, none)
    return merge(arrivals)


@pytest.mark.parametrize("seed", range(2))
def test_bursty_load_meets_its_objectives_with_few_commands(seed):
    loop = Loop()
    loop.run(even(0), LOADED_MS)
    before = len(loop.decisions)
    plan = bursty(MINUTE_MS, seed)
    loop.run(plan, MINUTE_MS + 5000)
    assert loop.ends.total() == len(plan.at_ms)
    # The forecast here knows no quantiles, so the first burst of chat finds too few replicas.
    assert loop.ends["ok"] >= 0.98 * len(plan.at_ms)
    # Each of some twenty replicas changes about ten times a minute; sized anew each tick, sixty.
    changed = of_kind(loop.decisions[before:], SetBatch)
    assert len(changed) <= 14 * len({command.replica for command in changed})
    assert loop.steps > 5000  # of 9,600 that the fleet could take if it served nobody
    assert loop.out_of_memory == 0


def test_steady_load_moves_no_replica():
    loop = Loop()
    loop.run(even(2 * MINUTE_MS), 2 * MINUTE_MS)
    before = len(loop.decisions)
    loop.run(even(MINUTE_MS), MINUTE_MS / 2)
    assert not of_kind(loop.decisions[before:], (ScaleModel, PlaceReplica))
    assert len(of_kind(loop.decisions[before:], SetBatch)) <= 10
