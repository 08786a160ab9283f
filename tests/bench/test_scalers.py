"""What holds of every peer in the table."""

import pytest

from bench.peers import DEFAULT, SCALERS
from bench.policies.autoscaler import Scaler
from tests.bench.cases import a_case

TRIED_MOST = 30


@pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)
def test_its_default_comes_first_and_is_what_its_setting_says_by_itself(
    scaler: type[Scaler],
) -> None:
    assert next(iter(scaler.variants)) == DEFAULT
    setting = scaler.variants[DEFAULT]
    assert setting == type(setting)()


@pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)
def test_a_few_different_settings_are_tried(scaler: type[Scaler]) -> None:
    assert 2 <= len(set(scaler.tried)) == len(scaler.tried) <= TRIED_MOST


@pytest.mark.parametrize("scaler", SCALERS.values(), ids=SCALERS)
def test_each_setting_makes_a_rule_that_holds_still_without_a_metric(scaler: type[Scaler]) -> None:
    for setting in (*scaler.variants.values(), *scaler.tried):
        assert scaler(a_case(1, 50), setting).desired(0.0, 3, 3) == 3
