"""`plimsoll outage`: the broker is away for 10 s in the middle of a load. What is lost, who talks?

The last line it prints is JSON, for whoever keeps the figures.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from cli.connection import given_servers
from cli.drive import Drive, Options
from cli.local.kafka import LocalKafka
from cli.local.processes import LocalError, ProjectLock, Say
from cli.report import report_of
from cli.session import Session, clear, session
from cli.speaker import Speaker
from cli.stack import ALL, BASE
from cli.summary import print_figures

DOWN_S = 10.0
# Lines are counted until the services have found the broker again.
AFTERMATH_S = 5.0
RESUMES_WITHIN_S = 60.0


@dataclass
class Outage:
    """When the broker was away, in epoch ms, and how soon the loop went on after it was back."""

    down_ms: int = 0
    up_ms: int = 0
    resumed_s: float | None = None


def outage(duration_s: float, out: Path, seed: int) -> None:
    """Run the measurement. Call it from the main thread. Raises LocalError, SettingError."""
    if given_servers():
        raise LocalError("this stops the broker: unset PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS first")
    options = Options(out, duration_s, seed=seed)
    console = Console()
    say = Speaker(console)
    with ProjectLock(BASE / "demo.lock"):
        clear(out)
        with LocalKafka(BASE, say=say) as kafka:
            say(f"Kafka answers at {kafka.bootstrap_servers}")
            found = asyncio.run(measure(options, kafka, console, say))
    print_figures(console, f"The broker away for {found['down_s']} s", found)


async def measure(
    options: Options, kafka: LocalKafka, console: Console, say: Say
) -> dict[str, Any]:
    """Drive a load, stop `kafka` in its middle, and return what came of it, as JSON types."""
    away = Outage()
    async with session(kafka.bootstrap_servers, options.out, ALL, say) as running:
        drive = Drive(running, options, console)
        interrupting = asyncio.create_task(_interrupt(kafka, drive, running, away))
        try:
            window = await drive.run()
            await interrupting
        finally:
            interrupting.cancel()
        restarts = dict(running.stack.restarts)
    report = report_of(running.recording, window, drive.sent.acknowledged, *drive.loop, restarts)
    until_ms = away.up_ms + 1000 * AFTERMATH_S
    return {
        "down_s": round((away.up_ms - away.down_ms) / 1000, 1),
        "resumed_s": away.resumed_s,
        **report["requests"],
        "repeated_ends": report["repeated_ends"],
        "restarts": report["restarts"],
        "log_lines_per_s_max": {
            log.stem: busiest_second(log.read_text().splitlines(), away.down_ms, until_ms)
            for log in sorted((options.out / "logs").glob("*.log"))
        },
    }


async def _interrupt(kafka: LocalKafka, drive: Drive, running: Session, away: Outage) -> None:
    while drive.window is None:
        await asyncio.sleep(0.1)
    await asyncio.sleep(drive.window.duration_s / 3)
    running.say("the broker is stopped")
    away.down_ms = _now_ms()
    await asyncio.to_thread(kafka.stop)
    await asyncio.sleep(max(0.0, DOWN_S - (_now_ms() - away.down_ms) / 1000))
    await asyncio.to_thread(kafka.start)
    away.up_ms = _now_ms()
    running.say("the broker is back")
    while running.recording.view.tick_at_ms <= away.up_ms:
        if _now_ms() - away.up_ms > 1000 * RESUMES_WITHIN_S:
            raise LocalError(f"the loop did not go on within {RESUMES_WITHIN_S:.0f} s")
        await asyncio.sleep(0.05)
    away.resumed_s = round((_now_ms() - away.up_ms) / 1000, 1)
    running.say(f"the loop goes on, {away.resumed_s} s later")


def busiest_second(lines: Iterable[str], begin_ms: float, end_ms: float) -> int:
    """Return the most lines of a log within one second of [begin, end).

    A line without a time of its own, as of a traceback, counts with the one before it. The load's
    account of what it has sent is no word about the outage.
    """
    counts: Counter[int] = Counter()
    at_ms = 0.0
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
            said = json.loads(line)
            at_ms = 1000 * datetime.fromisoformat(said["timestamp"]).timestamp()
            if said["event"] == "progress":
                continue
        if begin_ms <= at_ms < end_ms:
            counts[int(at_ms // 1000)] += 1
    return max(counts.values(), default=0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
