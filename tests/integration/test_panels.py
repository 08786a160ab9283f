"""What a person would see: a real Prometheus reads the real loop, and every panel has an answer.

Everything runs as in the demo, with load that does not end; the project's own configuration finds
it at other addresses, and that alone is changed.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.session import session
from cli.stack import ALL, Service, Stack
from libs.common.settings import KafkaSection
from tests.conftest import ROOT
from tests.prometheus_server import Prometheus, metrics_of, program, records, rules

pytestmark = [pytest.mark.bus, pytest.mark.timeout(240)]

BOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
LOAD = Service("load", "services.load", "1")
# From a loop that is ready to the last panel with an answer.
ANSWERED_WITHIN_S = 15.0
# What Grafana puts in their place on a board that shows 15 minutes of samples taken each 2 s.
BUILT_IN = {"__rate_interval": "30s", "__interval": "5s", "__range": "5m"}


class Question(NamedTuple):
    """One query, and where it comes from."""

    title: str
    expression: str


def questions(board: dict[str, Any]) -> Iterator[Question]:
    """Every query of a board, of panels in rows too, as Grafana would send it."""
    panels = list(board["panels"])
    while panels:
        panel = panels.pop(0)
        panels += panel.get("panels", [])
        for target in panel.get("targets", []):
            where = f"{board['title']}: {panel['title']}"
            yield Question(where, without_variables(target["expr"]))


def without_variables(expression: str) -> str:
    """Put a duration for Grafana's own variables, and everything for those of the board."""
    for name, value in BUILT_IN.items():
        expression = re.sub(rf"\$(?:{name}\b|{{{name}}})", value, expression)
    return re.sub(r"\$(?:\w+|{\w+(?::\w+)?})", ".*", expression)


@pytest.fixture
async def stack(
    kafka_section: KafkaSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """The loop as in the demo, ready, with load that has just begun."""
    program("prometheus")  # before anything is started for nothing
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    monkeypatch.setenv("PLIMSOLL_LOAD__DURATION_S", "0")
    async with session(kafka_section.bootstrap_servers, tmp_path, ALL, print) as running:
        await running.stack.start([LOAD])
        yield running.stack


async def test_every_panel_and_every_rule_has_an_answer(stack: Stack, tmp_path: Path) -> None:
    addresses: dict[str, list[str]] = {}
    for service in (*ALL, LOAD):
        addresses.setdefault(service.package.split(".")[1], []).append(stack.address(service))
    boards = [json.loads(file.read_text()) for file in BOARDS]
    asked = [question for board in boards for question in questions(board)]
    asked += [Question("a recording rule", record) for record in records()]
    with Prometheus(tmp_path, addresses) as prometheus:
        began, silent = time.monotonic(), asked
        while silent := await asyncio.to_thread(unanswered, prometheus, silent):
            lines = "\n".join(f"{title}\n    {expression}" for title, expression in silent)
            assert time.monotonic() - began < ANSWERED_WITHIN_S, f"no answer to\n{lines}"
            await asyncio.sleep(0.5)
        print(f"{len(asked)} queries answered after {time.monotonic() - began:.1f} s")

        named = set().union(*(metrics_of(rule["expr"]) for rule in rules()))
        assert named <= prometheus.metric_names()
        assert {t["labels"]["job"] for t in prometheus.targets()} == {*addresses, "prometheus"}
        for rule in prometheus.rules():
            assert rule["health"] == "ok", rule
            alerts = rule.get("alerts", [])
            assert not [a for a in alerts if a["state"] == "firing"], "all is well, and it fires"


def unanswered(prometheus: Prometheus, asked: list[Question]) -> list[Question]:
    """Return the queries to which there is no answer yet, or none but NaN."""
    return [
        question
        for question in asked
        if all(isnan(float(s["value"][1])) for s in prometheus.query(question.expression))
    ]
