"""The alerts: valid, each proven to fire and to keep still, and each with its page for a person."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.prometheus_server import (
    FOLDER,
    METRIC,
    RULES,
    found_at,
    metrics_of,
    promtool,
    rules,
)

TESTS = sorted((FOLDER / "tests").glob("*.yml"))
BOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
PAGE = ROOT / "docs" / "alerts.md"
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def expectations(alert: str) -> Iterator[tuple[set[str], bool]]:
    """For each time that an alert is looked at in a test: the metrics there, and if it fires."""
    for file in TESTS:
        for test in yaml.safe_load(file.read_text())["tests"]:
            given = {name for row in test["input_series"] for name in METRIC.findall(row["series"])}
            for look in test.get("alert_rule_test", ()):
                if look["alertname"] == alert:
                    yield given, bool(look.get("exp_alerts"))


def test_the_configuration_and_its_rules_are_valid() -> None:
    said = promtool("check", "config", FOLDER / "prometheus.yml")
    assert f"{len(RULES)} rule files found" in said
    promtool("check", "rules", *RULES)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_only_then(file: Any) -> None:
    promtool("test", "rules", file)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_both_ways(alert: str) -> None:
    looks = list(expectations(alert))
    assert any(fires for _, fires in looks), "no test in which it fires"
    # Where there is nothing to see, keeping still is no merit.
    near = [given for given, fires in looks if not fires and given]
    assert any(given & metrics_of(ALERTS[alert]["expr"]) for given in near), "no test against it"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_the_matter_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket", "info")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{alert.lower()}"
    section = PAGE.read_text().split(f"\n## {alert}\n")
    assert len(section) == 2, f"docs/alerts.md has no section {alert}"
    text = section[1].split("\n## ")[0]
    for part in ("**Means.**", "**Look.**", "**Do.**", "**Not.**"):
        assert part in text, f"{alert} lacks {part}"


def test_the_page_tells_of_no_alert_that_there_is_not() -> None:
    assert set(re.findall(r"^## (Plimsoll\w+)$", PAGE.read_text(), re.MULTILINE)) == set(ALERTS)


def test_the_page_points_at_panels_that_there_are() -> None:
    boards = [json.loads(file.read_text()) for file in BOARDS]
    # A panel that is repeated for each model says so behind its name.
    there = {
        (panel["title"].partition(":")[0], board["title"])
        for board in boards
        for panel in board["panels"]
    }
    text = " ".join(PAGE.read_text().split())
    pointed_at = set(re.findall(r"\*([^*]+)\* on \*(\w+)\*", text))
    assert len(pointed_at) > 10
    assert pointed_at - there == set()


def test_every_service_is_read_at_its_port() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found = {
        name: dns["port"]
        for scrape in config["scrape_configs"]
        for dns in scrape.get("dns_sd_configs", [])
        for name in dns["names"]
    }
    services = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert found == {**dict.fromkeys(services, 8000), "dcgm-exporter": 9400}


def test_a_test_changes_where_targets_are_found_and_nothing_else() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    changed = found_at(config, {"prometheus": ["127.0.0.1:1"], "executor": ["127.0.0.1:2"]})

    def rest(of: dict[str, Any]) -> dict[str, Any]:
        finding = {"dns_sd_configs", "static_configs"}
        scrapes = of["scrape_configs"]
        return {
            **of,
            "scrape_configs": [
                {key: value for key, value in scrape.items() if key not in finding}
                for scrape in scrapes
            ],
        }

    assert rest(changed) == rest(config)
    executors = {"targets": ["127.0.0.1:2"], "labels": {"__meta_dns_name": "executor"}}
    assert executors in changed["scrape_configs"][0]["static_configs"]
