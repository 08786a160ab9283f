"""What a person would see: a real Prometheus reads the real loop, and every panel has an answer.

Everything starts in the order of the compose stack: topics and models, then the services, with load
that does not end. The project's own configuration is used; that its targets are found at other
addresses is all that is changed.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.local.servers import RedisServer
from cli.registry import publish_models
from cli.stack import ALL, SCHEDULERS, Service, Stack
from libs.common.settings import KafkaSection
from tests.conftest import ROOT, Connect
from tests.prometheus_server import Prometheus, metrics_of, program, records, rules

pytestmark = [pytest.mark.bus, pytest.mark.timeout(300)]

BOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
LOAD = Service("load", "services.load", "1")
READY_WITHIN_S = 90.0
ANSWERED_WITHIN_S = 15.0  # from then on
# Said in shadow mode alone; two schedulers start and elect first, on a busy machine.
SHADOW = {"plimsoll_shadow_gpus"}
IN_SHADOW_WITHIN_S = 60.0
# What Grafana puts in their place on a board that shows minutes of samples taken each 2 s.
BUILT_IN = {"__rate_interval": "30s", "__interval": "5s", "__range": "5m"}
# What a start on a busy machine may rightly set off.
ROUGH_START = ("PlimsollModelUnserved", "PlimsollDecisionsHeld")
# Resident is who may be awake or stand by; each model of the demo starts with one.
RESIDENT = 'count(sum by (model) (plimsoll_replicas{state=~"awake|standby"}) > 0)'


class Question(NamedTuple):
    """One query, and where it stands."""

    title: str
    expression: str


def questions(board: Mapping[str, Any]) -> Iterator[Question]:
    """Yield every query of a board, those of folded rows too, as Grafana would send it."""
    panels = list(board["panels"])
    while panels:
        panel = panels.pop(0)
        panels += panel.get("panels", [])
        for target in panel.get("targets", []):
            title = f"{board['title']}: {panel['title']}"
            yield Question(title, without_variables(target["expr"]))


def without_variables(expression: str) -> str:
    """Put durations for Grafana's own variables, and "all" for those of the board."""
    for name, value in BUILT_IN.items():
        expression = re.sub(rf"\$(?:{name}\b|{{{name}}})", value, expression)
    return re.sub(r"\$(?:\w+|{\w+(?::\w+)?})", ".*", expression)


@pytest.fixture
async def watched(
    kafka_section: KafkaSection,
    connect: Connect,
    redis_server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Stack, Prometheus]]:
    """The loop, which is ready, and a Prometheus that reads it."""
    program("prometheus")  # before anything is started for nothing
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    monkeypatch.setenv("PLIMSOLL_LOAD__DURATION_S", "0")
    monkeypatch.setenv("PLIMSOLL_REDIS__URL", redis_server.url)
    async with connect("init") as bus:
        models = await publish_models(bus)
    async with Stack(kafka_section.bootstrap_servers, tmp_path, print) as stack:
        await stack.start((*ALL, LOAD))
        addresses: dict[str, list[str]] = {}
        for service in (*ALL, LOAD):
            name = service.package.removeprefix("services.")
            addresses.setdefault(name, []).append(stack.address(service))
        with Prometheus(tmp_path, addresses) as reading:
            deadline = time.monotonic() + READY_WITHIN_S
            while await asyncio.to_thread(value, reading, RESIDENT) < len(models):
                stack.check()
                assert time.monotonic() < deadline, f"not ready; the logs are in {tmp_path}"
                await asyncio.sleep(0.2)
            yield stack, reading


async def test_every_panel_and_every_rule_has_an_answer(watched: tuple[Stack, Prometheus]) -> None:
    stack, prometheus = watched
    boards = [json.loads(file.read_text()) for file in BOARDS]
    asked = [question for board in boards for question in questions(board)]
    asked += [Question("a recording rule", name) for name in records()]
    in_shadow = [question for question in asked if metrics_of(question.expression) == SHADOW]
    await answered(prometheus, [question for question in asked if question not in in_shadow])

    # An expression may say 0 of a metric that there is not, by `or vector(0)`.
    expressions = [*(rule["expr"] for rule in rules()), *(question[1] for question in asked)]
    named = set().union(*map(metrics_of, expressions))
    assert named - prometheus.metric_names() == SHADOW
    for rule in prometheus.rules():
        assert rule["health"] == "ok", rule
        assert rule.get("state") != "firing" or rule["name"] in ROUGH_START, rule

    await stack.restart(SCHEDULERS, PLIMSOLL_SCHEDULER__MODE="shadow")
    await answered(prometheus, in_shadow, IN_SHADOW_WITHIN_S)


async def answered(
    prometheus: Prometheus, asked: Sequence[Question], within_s: float = ANSWERED_WITHIN_S
) -> None:
    """Return once each query has had an answer. Asserts that it does so in time."""
    assert asked
    # Asked as of a moment: how long the asking takes on a busy machine is not the point.
    silent, begin_s = asked, time.time()
    at_s = begin_s
    while silent := await asyncio.to_thread(unanswered, prometheus, silent, at_s):
        lines = "\n".join(f"{title}\n    {expression}" for title, expression in silent)
        assert at_s < begin_s + within_s, f"no answer to\n{lines}"
        await asyncio.sleep(0.5)
        at_s = min(time.time(), begin_s + within_s)
    print(f"{len(asked)} queries answered within {at_s - begin_s:.1f} s")


def unanswered(prometheus: Prometheus, asked: Sequence[Question], at_s: float) -> list[Question]:
    """Return the queries to which there was no answer yet at a moment, or none but NaN."""
    return [
        question
        for question in asked
        if all(isnan(float(s["value"][1])) for s in prometheus.query(question.expression, at_s))
    ]


def value(prometheus: Prometheus, expression: str) -> float:
    """Return the one number that an expression has; 0 where it has none yet."""
    found = prometheus.query(expression)
    return float(found[0]["value"][1]) if found else 0.0
