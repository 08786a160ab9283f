"""Settings: read once, checked at once, named when wrong."""

import pytest

from libs.common.errors import SettingError
from libs.common.settings import RedisSection, Settings, check, load, without_password


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


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_KAFKA__SESSION_TIMEOUT_MS", "")
    assert load(Settings).kafka.session_timeout_ms == 1000


def test_a_value_that_should_be_json_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIMSOLL_TELEMETRY", "quiet")
    with pytest.raises(SettingError, match="PLIMSOLL_TELEMETRY='quiet': not JSON"):
        load(Settings)


def test_a_check_names_every_fault_once_and_every_name_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check([Settings, Settings])
    monkeypatch.setenv("PLIMSOLL_TELEMETRY__PORT", "70000")
    monkeypatch.setenv("PLIMSOLL_TELEMETRY__PROT", "1")
    monkeypatch.setenv("PLIMSOLL_KAFFKA__TOPIC_PREFIX", "a")
    with pytest.raises(SettingError) as caught:
        check([Settings, Settings])
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert sum("PLIMSOLL_TELEMETRY__PORT='70000'" in line for line in lines) == 1
    assert sum("PLIMSOLL_TELEMETRY__PROT='1': Extra inputs" in line for line in lines) == 1
    assert "did you mean PLIMSOLL_KAFKA__TOPIC_PREFIX?" in lines[2]


class WithRedis(Settings):
    redis: RedisSection = RedisSection()


@pytest.mark.parametrize(
    "url",
    ["", "redis://cache", "redis://:secret@[::1]:6379/2", "rediss://me:s@h/", "unix:///run/r.sock"],
)
def test_a_redis_url_may_be_of_these_forms(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PLIMSOLL_REDIS__URL", url)
    assert load(WithRedis).redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        *("cache:6379", "http://cache", "redis://", "redis://:secret@", "redis://h:70000"),
        *("redis://h/one", "redis://h:port", "redis://h:0", "redis://h?nonsense=1", "unix://"),
    ],
)
def test_another_redis_url_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PLIMSOLL_REDIS__URL", url)
    with pytest.raises(SettingError, match="PLIMSOLL_REDIS__URL=") as caught:
        load(WithRedis)
    assert without_password(url) in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:secret@h:1/0", "redis://me:***@h:1/0"),
        ("redis://:p@ss/wo:rd@h", "redis://:***@h"),
        ("a://u:p@h?password=x&b=1 and b://h:5/c", "a://u:***@h?password=***&b=1 and b://h:5/c"),
        ("redis://h:6379/0", "redis://h:6379/0"),
    ],
)
def test_a_password_in_a_url_is_not_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown
