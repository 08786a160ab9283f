"""The whole loop on a real Kafka: every service a process, a seeded load, and faults in the middle.

Safety is asserted as it is promised; time only with a bound five times the target. The figures
themselves come from `make demo`, `make takeover` and `make outage`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from cli.drive import Drive, Options
from cli.picture import draw
from cli.report import report_of
from cli.session import Session, session
from cli.stack import ALL, EXECUTOR, METRICS
from cli.takeover import Terms, acted_after, change_leader, read_ticks
from libs.common.settings import KafkaSection

pytestmark = [pytest.mark.bus, pytest.mark.timeout(240)]

LOAD_S = 25.0


@pytest.fixture
async def running(
    kafka_section: KafkaSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Session]:
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    async with session(kafka_section.bootstrap_servers, tmp_path, ALL, print) as started:
        yield started


async def test_the_loop_serves_explains_and_survives_its_leader(
    running: Session, tmp_path: Path
) -> None:
    drive = Drive(running, Options(tmp_path, LOAD_S, seed=1), Console(file=StringIO()))
    terms = Terms()
    reading = asyncio.create_task(read_ticks(running.bus, terms))
    driving = asyncio.create_task(drive.run())
    while terms.epoch < 0:
        await asyncio.sleep(0.05)

    killed = await change_leader(running, terms, "kill")
    paused = await change_leader(running, terms, "pause")
    window = await driving
    reading.cancel()
    recording = running.recording
    report = report_of(
        recording, window, drive.sent.acknowledged, *drive.loop, running.stack.restarts
    )

    requests = report["requests"]
    assert requests["in"] > 500
    assert requests["lost"] == 0
    assert requests["in"] == requests["ok"] + requests["late"] + requests["rejected"]
    assert report["oom_events"] == 0
    assert report["dead_letters"] == 0
    assert all(report["commands"][kind] > 0 for kind in ("scaling", "batch", "placement"))
    assert report["commands"]["acknowledged"] > 0
    assert report["gpu_hours"]["training"] > 0, "GPUs that nobody serves on train"
    assert report["loop_latency_ms"]["p50"] < 5 * 160
    assert json.loads(json.dumps(report)) == report
    draw(recording, window, "a run", tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 10_000

    assert killed.state_equal, "the new leader went on from another state"
    assert paused.state_equal
    assert killed.gap_s < 5 * 1.5
    assert terms.out_of_turn == 0, "a deposed leader was read"
    assert acted_after(recording.claims_by_epoch, recording.acks) == 0
    assert recording.view.decisions, "decisions are explained"


async def test_host_metrics_flow_and_every_service_is_ready(running: Session) -> None:
    while not running.recording.view.nodes:
        await running.follower.read_for(0.1)
    for service in ALL:
        while True:
            try:
                assert '"ready": true' in await running.stack.get(service, "/readyz")
                break
            except OSError:  # 503: not yet
                await asyncio.sleep(0.1)
    page = await running.stack.get(METRICS, "/metrics")
    assert "plimsoll_" in page
    assert "plimsoll_loop_latency_seconds_count" in await running.stack.get(EXECUTOR, "/metrics")
