"""Drives a started stack with load, shows how it goes, and waits until all requests have ended."""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from cli.local.processes import LocalError
from cli.report import Buckets, Window, loop_buckets
from cli.session import Session
from cli.stack import EXECUTOR, Load, Progress
from cli.summary import progress_line
from cli.top import render
from libs.common import series

DRAIN_S = 60.0
STARTS_WITHIN_S = 30.0
# Devices are sampled once a second; one that is gone is not waited for.
SAMPLES_WITHIN_S = 3.0
REFRESH_S = 0.5
MARK_EACH_S = 1.0
LINE_EACH_S = 5.0


@dataclass(frozen=True)
class Options:
    """What a person may choose of a run."""

    out: Path
    duration_s: float = 120.0
    trace: Path | None = None
    copies: int = 1
    seed: int = 0


class Drive:
    """One run of load. `window` is known once it has begun, `sent` and `loop` when it is over."""

    def __init__(self, session: Session, options: Options, console: Console) -> None:
        self.window: Window | None = None
        self.sent = Progress()
        self.loop: tuple[Buckets, Buckets] = ({}, {})  # the executor's histogram, before and after
        self._session = session
        self._options = options
        self._console = console
        self._marked_at = self._said_at = float("-inf")

    async def run(self) -> Window:
        """Send the load, and return its window once it is drained. Raises LocalError."""
        options = self._options
        chosen: dict[str, object] = {
            "duration_s": options.duration_s,
            "seed": options.seed,
            "copies": options.copies,
        }
        if options.trace is not None:
            chosen["trace"] = options.trace.resolve()
        self._mark()  # counters are read at both ends of the window, so one mark lies before it
        load = self._session.stack.spawn_load(self._session.recording.run, chosen)
        try:
            start_ms = await self._started(load)
            trace = None if options.trace is None else str(options.trace)
            window = Window(start_ms, options.duration_s, trace, options.copies, options.seed)
            self.window = window
            before = await self._loop_buckets()
            with self._screen() as live:
                while time.time() * 1000 < window.end_ms:
                    await self._step(load, window, live, "driving")
                self.loop = (before, await self._loop_buckets())
                await self._drain(load, window, live)
            self._mark()
            self.sent = load.progress()
            return window
        finally:
            await asyncio.to_thread(load.stop)

    async def _started(self, load: Load) -> int:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while (start_ms := load.progress().start_ms) is None:
            await self._session.follower.read_for(0.1)
            if time.monotonic() > deadline:
                raise LocalError(f"the load did not begin within {STARTS_WITHIN_S:.0f} s")
        self._session.say(f"the load begins, for {self._options.duration_s:g} s")
        return start_ms

    async def _drain(self, load: Load, window: Window, live: Live | None) -> None:
        ends = self._session.recording.ends
        samples_by_ms = window.end_ms + 1000 * SAMPLES_WITHIN_S
        while time.time() * 1000 < window.end_ms + 1000 * DRAIN_S:
            progress = load.progress()
            ended = progress.done and len(ends) >= progress.total
            if ended and (self._sampled_until(window) or time.time() * 1000 > samples_by_ms):
                return
            await self._step(load, window, live, "draining")

    def _mark(self) -> None:
        self._session.recording.mark(time.time_ns() // 1_000_000)

    def _sampled_until(self, window: Window) -> bool:
        """Return whether every device has told of the whole window."""
        devices = self._session.recording.view.devices.values()
        fleet = [device for device in devices if series.GPU_SERVING_S in device.values]
        return all(device.recent[-1][0] >= window.end_ms for device in fleet)

    async def _step(self, load: Load, window: Window, live: Live | None, phase: str) -> None:
        await self._session.follower.read_for(REFRESH_S)
        recording, now_ms = self._session.recording, time.time_ns() // 1_000_000
        elapsed_s = (now_ms - window.start_ms) / 1000
        if elapsed_s - self._marked_at >= MARK_EACH_S:
            self._marked_at = elapsed_s
            recording.mark(now_ms)
        if live is not None:
            title = f"{phase}, {elapsed_s:.0f} of {window.duration_s:.0f} s"
            live.update(render(recording.view, now_ms, title=title), refresh=True)
        elif elapsed_s - self._said_at >= LINE_EACH_S:
            self._said_at = elapsed_s
            self._session.say(progress_line(recording, load.progress(), phase))

    async def _loop_buckets(self) -> Buckets:
        try:
            return loop_buckets(await self._session.stack.get(EXECUTOR, "/metrics"))
        except OSError as error:
            self._session.say(f"the executor's metrics cannot be read: {error}")
            return {}

    def _screen(self) -> AbstractContextManager[Live | None]:
        """A live view where there is a terminal; elsewhere plain lines take its place."""
        if not self._console.is_terminal:
            return nullcontext()
        return Live(console=self._console, auto_refresh=False, transient=True)
