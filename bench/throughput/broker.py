"""The broker of a measurement, what is filled into it, and the pinned processes that read it."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.throughput.load import ORIGIN
from cli.local.processes import LocalError, end, last_lines, spawn
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Outgoing
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health

T = TypeVar("T")

CHUNK = 2000  # messages: a producer's buffer is bounded
ENDS_WITHIN_S = 180.0


async def fill(section: KafkaSection, first: list[Outgoing], messages: Iterable[Outgoing]) -> None:
    """Make the topics, then publish `first` and `messages`, all acknowledged."""
    await kafka_admin.apply_topics(section)
    async with KafkaBus.connect(section, ORIGIN, Health(20.0)) as bus:
        await bus.publish(first)
        rest = iter(messages)
        while chunk := list(itertools.islice(rest, CHUNK)):
            await bus.publish(chunk)


@contextmanager
def pinned(
    arguments: list[str], log: Path, settings: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Python module on the last core alone, for this block."""
    core = max(os.sched_getaffinity(0))
    argv = ["taskset", "-c", str(core), sys.executable, "-m", *arguments]
    process = spawn(argv, log=log, env={**os.environ, **(settings or {})})
    try:
        yield process
    finally:
        end(process, timeout_s=10.0)


def work(kind: str, task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a worker (`worker.py`) tells.

    Raises:
        LocalError: it failed, or took too long.
    """
    out, log = folder / "told.json", folder / f"{kind}.log"
    out.unlink(missing_ok=True)
    arguments = ["bench.throughput.worker", kind, str(out), json.dumps(task)]
    with pinned(arguments, log) as process:
        deadline = time.monotonic() + ENDS_WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    if not out.exists():
        raise LocalError(f"{kind} told nothing. The last lines of {log}:\n{last_lines(log)}")
    told: dict[str, Any] = json.loads(out.read_text())
    return told


def settings_of(section: KafkaSection) -> dict[str, str]:
    """Return the environment by which a service finds these topics."""
    return {
        "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS": section.bootstrap_servers,
        "PLIMSOLL_KAFKA__TOPIC_PREFIX": section.topic_prefix,
        "PLIMSOLL_TELEMETRY__PORT": "0",
    }


def cpu_s(pid: int) -> float:
    """Return the seconds of processor time that a process has taken, over all its threads."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


async def beside(
    process: "subprocess.Popen[bytes]", log: Path, work: Coroutine[Any, Any, T], within_s: float
) -> T:
    """Return what `work` does while a process lives.

    Raises:
        LocalError: the process ended by itself, or the work did not within `within_s`.
    """
    working, living = asyncio.create_task(work), asyncio.create_task(_lives(process))
    tasks = (working, living)
    try:
        await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        said = "ended" if living.done() else f"has not done in {within_s:.0f} s"
        raise LocalError(f"the process {said}. The last lines of {log}:\n{last_lines(log)}")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lives(process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        await asyncio.sleep(0.2)
