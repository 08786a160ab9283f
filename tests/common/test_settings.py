"""Settings: read once, checked at once, named when wrong."""

import pytest

from libs.common.errors import SettingError
from libs.common.settings import Settings, load


def test_every_setting_has_a_default_that_works() -> None:
    settings = load(Settings)
    assert settings.kafka.session_timeout_ms == 1000
    assert settings.telemetry.port == 0


def test_a_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS", "broker:1")
    monkeypatch.setenv("PLIMSOLL_INSTANCE", "a")
    settings = load(Settings)
    assert (settings.kafka.bootstrap_servers, settings.instance) == ("broker:1", "a")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PLIMSOLL_KAFKA__SESSION_TIMEOUT_MS", "10", "greater than or equal to 500"),
        ("PLIMSOLL_KAFKA__SESSION_TIMEOUT_MS", "soon", "valid integer"),
        ("PLIMSOLL_TELEMETRY__PORT", "70000", "less than or equal to 65535"),
        ("PLIMSOLL_KAFKA__SESION_TIMEOUT_MS", "1000", "Extra inputs are not permitted"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_range(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError) as caught:
        load(Settings)
    assert variable in str(caught.value)
    assert value in str(caught.value)
    assert said in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Settings).kafka.bootstrap_servers = "other"  # type: ignore[misc]
