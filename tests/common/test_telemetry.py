"""Logs, health and the watchdog: what a service says of itself."""

import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client import REGISTRY

from libs.common.telemetry import EXIT_STUCK, Health, OneASecond, Sum, serve_http


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_service_is_ready_when_every_probe_is_content() -> None:
    health = Health(stuck_after_s=10)
    port = serve_http(health, "127.0.0.1", 0)
    assert get(port, "/readyz")[0] == 503, "before the first check nothing is known"
    said: list[str | None] = ["no partition assigned"]
    health.ready_when("reader", lambda: said[0])
    health.check()
    status, body = get(port, "/readyz")
    assert status == 503
    assert json.loads(body)["missing"] == {"reader": "no partition assigned"}
    assert get(port, "/healthz")[0] == 200
    said[0] = None
    health.check()
    assert get(port, "/readyz")[0] == 200


def test_metrics_are_served_and_other_paths_are_not() -> None:
    port = serve_http(Health(10), "127.0.0.1", 0)
    status, body = get(port, "/metrics")
    assert status == 200
    assert "plimsoll_dead_letters_total" in body
    assert get(port, "/etc/passwd")[0] == 404


def test_a_port_in_use_raises() -> None:
    port = serve_http(Health(10), "127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        serve_http(Health(10), "127.0.0.1", port)


def test_trouble_that_lasts_is_being_stuck_and_passing_trouble_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("libs.common.telemetry.time.monotonic", lambda: now[0])
    health = Health(stuck_after_s=10)
    said: list[str | None] = ["no partition assigned"]
    health.ready_when("reader", lambda: said[0])
    for at, trouble, stuck in [
        (100, "no partition assigned", False),
        (109, "no partition assigned", False),
        (110, None, False),  # it recovered: the time starts anew
        (111, "no partition assigned", False),
        (120, "no partition assigned", False),
        (122, "no partition assigned", True),
    ]:
        now[0], said[0] = at, trouble
        health.check()
        assert (health.stuck() is not None) is stuck, at
    health.forget("reader")
    health.check()
    assert health.stuck() is None


def test_a_blocked_event_loop_is_seen_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("libs.common.telemetry.time.monotonic", lambda: now[0])
    health = Health(stuck_after_s=10)
    health.check()
    now[0] = 106.0
    assert "event loop" in health.missing()
    now[0] = 111.0
    assert "blocked" in (health.stuck() or "")


def test_a_stuck_process_ends_itself_with_its_own_status() -> None:
    script = """
import asyncio
from libs.common.telemetry import Health, watch, configure_logs
configure_logs("test", "a", "INFO")
health = Health(stuck_after_s=1)
health.ready_when("reader", lambda: "no partition assigned")
async def main():
    watch(health)
    while True:
        health.check()
        await asyncio.sleep(0.1)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.returncode == EXIT_STUCK
    line = json.loads(done.stdout.splitlines()[-1])
    assert line["service"] == "test"
    assert "no partition assigned" in line["reason"]


def test_libraries_get_one_line_a_second_and_the_rest_is_counted() -> None:
    now = [0.0]
    gate = OneASecond(lambda: now[0])

    def passes(name: str) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "gone %s", ("away",), None)
        return record.getMessage() if gate.filter(record) else None

    assert passes("aiokafka.conn") == "gone away"
    assert [passes("aiokafka"), passes("faust.app")] == [None, None]
    assert passes("services.scheduler") == "gone away", "our own lines are not held back"
    now[0] = 1.0
    assert passes("mode") == "gone away (and 2 more lines held back)"


def test_what_a_new_process_would_not_mend_is_shown_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("libs.common.telemetry.time.monotonic", lambda: now[0])
    health = Health(stuck_after_s=10)
    health.ready_when("outbox", lambda: "outbox is 12 s old", vital=False)
    for now[0] in (100.0, 110.0, 120.0):
        health.check()
    assert health.missing() == {"outbox": "outbox is 12 s old"}
    assert health.stuck() is None


def test_what_we_say_of_the_bus_ourselves_is_held_back_too_and_stays_json() -> None:
    script = """
import structlog
from libs.common.telemetry import configure_logs
configure_logs("test", "a", "INFO")
import time
log = structlog.get_logger("libs.common.adapters.kafka_publisher")
for n in range(3):
    log.warning("away", n=n)
time.sleep(1.0)
log.warning("away", n=3)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["n"] for line in lines] == [0, 3]
    assert lines[1]["lines_held_back"] == 2
    assert done.stderr == b""


def test_a_sum_kept_elsewhere_is_followed_over_its_new_beginning() -> None:
    followed = Sum("plimsoll_followed_total", "For this test", ["of"])

    def counted() -> float | None:
        return REGISTRY.get_sample_value("plimsoll_followed_total", {"of": "a"})

    for value, total in ((3.0, 3.0), (5.0, 5.0), (5.0, 5.0), (1.0, 6.0), (4.0, 9.0)):
        followed.reach(value, "a")
        assert counted() == total
