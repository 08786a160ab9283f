"""`plimsoll demo`: everything on this machine, driven for a while, and what came of it.

It starts a broker and the services with an empty fleet, waits until each model has its least
replicas, drives them open-loop, and leaves a table, `report.json` and `timeline.png`. It ends by
itself, and leaves no process behind however it ends.
"""

import asyncio
import json
from typing import Any

from rich.console import Console

from cli.connection import given_servers
from cli.drive import Drive, Options
from cli.local.kafka import broker_at
from cli.local.processes import ProjectLock
from cli.report import report_of
from cli.session import clear, session
from cli.speaker import Speaker
from cli.stack import ALL, BASE
from cli.summary import summary


def demo(options: Options) -> None:
    """Run the demo. Call it from the main thread, which Ctrl-C reaches.

    Raises:
        LocalError, SettingError: something that a person can mend; the text says what.
        ContractError: the trace cannot be read; nothing was started.
    """
    check_trace(options)
    given = given_servers()
    console = Console()
    say = Speaker(console)
    with ProjectLock(BASE / "demo.lock"):
        clear(options.out)
        with broker_at(given, BASE, say=say) as servers:
            say(f"Kafka answers at {servers}")
            report = asyncio.run(_demo(options, servers, console, say))
    console.print(summary(report))
    say(f"report.json, timeline.png and logs are in {options.out}")


def check_trace(options: Options) -> None:
    """Refuse a trace that cannot be read, before anything is started. Raises ContractError."""
    if options.trace is not None:
        # The one reader of traces is the load generator's; here it only looks.
        from services.load.trace_file import read_trace

        read_trace(options.trace, options.duration_s * 1000, model="chat")


async def _demo(options: Options, servers: str, console: Console, say: Speaker) -> dict[str, Any]:
    async with session(servers, options.out, ALL, say) as running:
        drive = Drive(running, options, console)
        window = await drive.run()
        restarts = dict(running.stack.restarts)
    recording = running.recording
    report = report_of(recording, window, drive.sent.acknowledged, *drive.loop, restarts)
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    # matplotlib takes a second to load, which only the end of a run has to spare.
    from cli.picture import draw

    title = f"Plimsoll, {options.trace or 'synthetic load'}, {options.duration_s:g} s"
    draw(recording, window, title, options.out / "timeline.png")
    return report
