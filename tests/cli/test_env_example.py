"""`.env.example` is what the settings say."""

from pathlib import Path

from cli.env_example import env_example


def test_the_example_file_is_the_one_that_the_settings_make() -> None:
    file = Path(__file__).parents[2] / ".env.example"
    assert file.read_text() == env_example(), "run `make env`"


def test_every_setting_says_what_it_means() -> None:
    assert "# None" not in env_example()
