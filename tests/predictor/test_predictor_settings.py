import pytest

from libs.common import settings
from libs.common.errors import SettingError
from services.predictor.core.source import Policy
from services.predictor.settings import PredictorSection, PredictorSettings


def test_weights_that_do_not_sum_to_one_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_PREDICTOR__WEIGHT_CPU", "0.5")
    with pytest.raises(SettingError, match=r"PLIMSOLL_PREDICTOR.*sum to 1\.1, not to 1"):
        settings.load(PredictorSettings)


def test_the_core_is_told_what_was_set() -> None:
    weights = {"weight_cpu": 0.1, "weight_memory": 0.2, "weight_disk": 0.3, "weight_network": 0.4}
    section = PredictorSection(**weights, network_bytes_per_s=7, decision_ms=9, series_max=3)
    assert section.policy() == Policy((0.1, 0.2, 0.3, 0.4), 7, 9, 3)
