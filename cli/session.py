"""A started stack and the one who reads along: what the demo and the measuring verbs share."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.connection import apply_topics, connect, kafka_section
from cli.follow import Follower
from cli.local.processes import LocalError, Say
from cli.recording import RECORDED, Recording
from cli.registry import publish_models
from cli.stack import Service, Stack
from libs.common.messages import ModelSpec
from libs.common.ports import Bus

READY_WITHIN_S = 120.0  # from when no service lacks anything
STARTED_WITHIN_S = 600.0  # kernels compile for minutes on a busy machine
# An executor reports each second, so an older word is that of an earlier run on this broker.
REPORT_AGE_MS = 1000
TELL_EACH_S = 5.0  # before the first command, what the services wait for


@dataclass(frozen=True)
class Session:
    """Everything that runs, and what has been read of it so far."""

    stack: Stack
    bus: Bus
    recording: Recording
    follower: Follower
    say: Say


@asynccontextmanager
async def session(
    servers: str, out: Path, services: Sequence[Service], say: Say
) -> AsyncIterator[Session]:
    """Start services on an empty fleet, and yield once each model has `replicas_min` resident.

    Raises:
        LocalError: a service does not stay up, or the models did not come in time.
        SettingError: the broker or a topic is not as it should be.
    """
    section = kafka_section(servers)
    async with Stack(servers, out, say) as stack:
        await stack.start(services)
        await apply_topics(section)
        say("topics are there")
        async with connect(section, "demo") as bus:
            models = await publish_models(bus)
            # No other run on this broker has request ids that begin so.
            recording = Recording(run=f"{time.time_ns() // 1_000_000:x}")
            async with Follower(bus, RECORDED, recording.take) as follower:
                running = Session(stack, bus, recording, follower, say)
                await _until_resident(running, models)
                yield running


def clear(out: Path) -> None:
    """Make the folder of a run, and remove what an earlier one left in it, and nothing else."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    for pattern in ("logs/*.log", "report.json", "timeline.png", "inventory.db*"):
        for left in out.glob(pattern):
            left.unlink()


async def _until_resident(running: Session, models: Sequence[ModelSpec]) -> None:
    view, began_ms = running.recording.view, time.time_ns() // 1_000_000
    begin_s = time.monotonic()
    deadline = begin_s + READY_WITHIN_S
    missing = {model.name: model.replicas_min for model in models if model.replicas_min}
    shown, told_s, told = 0, begin_s, list[str]()
    while missing:
        await running.follower.read_for(0.1)
        running.stack.check()
        if not shown and time.monotonic() - told_s > TELL_EACH_S:
            lacking, told_s = await running.stack.lacking(), time.monotonic()
            if lacking:
                deadline = min(told_s + READY_WITHIN_S, begin_s + STARTED_WITHIN_S)
                who = (line.partition(":")[0] for line in lacking)
                for line in lacking if lacking != told else [f"still: {', '.join(who)}"]:
                    running.say(line)
            told = lacking
        for placement in running.recording.placements[shown:]:
            shown += 1
            first = " (the first command)" if shown == 1 else ""
            running.say(f"{placement.action} {placement.replica}{first}")
        current = all(node.at_ms >= began_ms - REPORT_AGE_MS for node in view.nodes.values())
        for name, least in list(missing.items()):
            if current and view.count(name, "resident") >= least:
                del missing[name]
                running.say(f"{name} is resident")
        if time.monotonic() > deadline:
            raise LocalError(
                f"after {time.monotonic() - begin_s:.0f} s {', '.join(missing)}"
                " still had too few replicas;"
                f" the logs are in {running.stack.log('executor').parent}"
            )
