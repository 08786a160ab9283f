from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.__main__ import app
from libs.common.topics import TOPICS

runner = CliRunner()
VERBS = (
    "top",
    "latest",
    "topics",
    "init",
    "produce",
    "trigger",
    "kafka",
    "inventory",
    "demo",
    "takeover",
    "handover",
    "outage",
    "settings",
)


def test_help_names_every_verb() -> None:
    said = runner.invoke(app, ["--help"])
    assert said.exit_code == 0
    for verb in VERBS:
        assert verb in said.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    said = runner.invoke(app, [verb, "--help"])
    assert said.exit_code == 0
    assert len(said.output.splitlines()) > 5


def test_topics_lists_the_whole_table() -> None:
    said = runner.invoke(app, ["topics"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    for topic in TOPICS:
        assert topic.name in said.output


def test_settings_are_the_lines_of_the_example_file() -> None:
    said = runner.invoke(app, ["settings"])
    assert said.exit_code == 0
    assert "PLIMSOLL_LOAD__SEED=0\n" in said.output


def test_a_trace_that_does_not_exist_stops_the_demo_before_anything_starts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    trace = tmp_path / "none.csv"
    said = runner.invoke(app, ["demo", "--trace", str(trace), "--out", str(out)])
    assert said.exit_code == 1
    assert said.stderr.count("\n") == 1
    assert "TIMESTAMP,ContextTokens,GeneratedTokens" in said.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments", [["--copies", "0"], ["--duration", "1"], ["--duration", "soon"], ["--seed", "-1"]]
)
def test_an_argument_out_of_range_is_refused(arguments: list[str]) -> None:
    said = runner.invoke(app, ["demo", *arguments])
    assert said.exit_code == 2
    assert arguments[0] in said.stderr


def test_an_unknown_topic_is_refused_without_a_broker() -> None:
    said = runner.invoke(app, ["produce", "nothing", "{}"])
    assert said.exit_code == 1
    assert "no topic nothing" in said.stderr


def test_a_trigger_that_cannot_be_true_is_refused_without_a_broker() -> None:
    said = runner.invoke(app, ["trigger", "chat", "--factor", "0.5"])
    assert said.exit_code == 1
    assert "factor" in said.stderr
    assert said.stderr.count("\n") == 1
