"""The rule of weights, against its formula by hand, and where it does what a user would not."""

import math

import pytest

from services.scheduler.core.policy import Policy
from services.scheduler.core.weights import serving_weight
from tests.scheduler.fleets import Fleet, a_model


@pytest.mark.parametrize(
    ("latency_ratio", "gpu_util", "share"),
    [
        (1.0, 1.0, 1 / 2),  # 1 and 1
        (0.5, 0.5, 0.75 / 2.75),  # infer 0.5 + 0.25, train 2
        (0.0, 0.5, 0.0),  # train 100,000
        (math.nan, 1.0, 1 / 2),  # as at 1
    ],
)
def test_the_share_is_that_of_the_weights(
    latency_ratio: float, gpu_util: float, share: float
) -> None:
    assert serving_weight(latency_ratio, gpu_util) == pytest.approx(share, abs=2e-5)


def test_past_the_objective_serving_gets_less_and_less() -> None:
    shares = [serving_weight(ratio, 0.5) for ratio in (1.0, 1.5, 2.0, 3.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0


def test_the_core_splits_by_weights_where_it_is_told_to() -> None:
    def share(policy: Policy) -> float:
        fleet = Fleet(a_model(), policy=policy)
        fleet.run(60, {"chat": 90})
        return float(fleet.state.serving_share.max())

    assert share(Policy()) == 0
    assert 0 < share(Policy(weight_rule=True)) <= 0.6
