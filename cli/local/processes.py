"""Child processes that never outlive us, and a lock that keeps a second demo out.

`Supervisor` starts programs and restarts the ones that exit; `spawn` starts a single one;
`ProjectLock` lets one holder into a folder. All promise that no child is left behind, by three
guards: an orderly stop, an exit hook, and on Linux the kernel, which kills the children even when
we are killed with -9. That last guard reaches the children only, not what they start themselves;
the first two end whole process groups. Nothing here knows what the programs do.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import fcntl
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

Say = Callable[[str], None]

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
# A child that lived this long was healthy: its next death starts from the first backoff again.
HEALTHY_AFTER_S = 10.0


class LocalError(RuntimeError):
    """An expected failure, worded for the person at the keyboard: print it without a traceback."""


@dataclass
class _Child:
    """A supervised program and, while it runs, its process."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None
    log: Path
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps programs running until told to stop; an async context manager that stops them all.

    Each child has its own session and process group, so a terminal's Ctrl-C reaches only us.
    Run it in an event loop whose thread lives as long as the children, normally the main thread:
    Linux kills a child when the *thread* that started it ends.
    """

    def __init__(self, say: Say = print) -> None:
        self.restarts: dict[str, int] = {}
        self._children: dict[str, _Child] = {}
        self._say = say

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_all()

    async def start(
        self, name: str, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
    ) -> int:
        """Start a program and keep it running; its process id. `env` None: our own environment.

        Output is appended to `log`. Raises LocalError where the program cannot be started at all.
        """
        assert name not in self._children, f"{name} is supervised already"
        child = _Child(name, argv, env, log)
        try:
            await _launch(child)
        except OSError as error:
            raise LocalError(f"cannot start {name} ({argv[0]}): {error.strerror}") from error
        self._children[name] = child
        self.restarts[name] = 0
        child.keeper = asyncio.create_task(self._keep(child), name=f"keep {name}")
        assert child.process is not None
        return child.process.pid

    def pid(self, name: str) -> int | None:
        """The child's process id; None while it is between two lives."""
        process = self._children[name].process
        return None if process is None else process.pid

    def kill(self, name: str) -> None:
        """Kill a child without warning, as a fault would: it is restarted like any other death."""
        pid = self.pid(name)
        if pid is not None:
            _signal_group(pid, signal.SIGKILL)

    async def stop(self, name: str, timeout_s: float = 10.0) -> None:
        """Stop one child for good, as `stop_all` does."""
        await self._stop([self._children.pop(name)], timeout_s)

    async def stop_all(self, timeout_s: float = 10.0) -> None:
        """Ask every child to end (SIGTERM), kill the groups that have not after `timeout_s`.

        Returns with none left, and may be called again. Should the wait itself be interrupted,
        the children are killed at once.
        """
        children = list(self._children.values())
        self._children.clear()
        await self._stop(children, timeout_s)

    async def _stop(self, children: Sequence[_Child], timeout_s: float) -> None:
        running = [child.process for child in children if child.process is not None]
        keepers = [child.keeper for child in children if child.keeper is not None]
        # The keepers go first, or they would restart what is stopped below.
        for keeper in keepers:
            keeper.cancel()
        exits = [asyncio.create_task(process.wait()) for process in running]
        try:
            for process in running:
                _signal_group(process.pid, signal.SIGTERM)
            if exits:
                await asyncio.wait(exits, timeout=timeout_s)
        finally:
            for process in running:
                _end_group(process.pid)
        await asyncio.gather(*keepers, *exits, return_exceptions=True)

    async def _keep(self, child: _Child) -> None:
        """Restart the child whenever it exits, ever more slowly while it fails at once."""
        failures = 0
        while True:
            assert child.process is not None
            started = time.monotonic()
            code = await child.process.wait()
            _end_group(child.process.pid)
            child.process = None
            failures = 0 if time.monotonic() - started > HEALTHY_AFTER_S else failures
            delay_s = backoff_s(failures)
            failures += 1
            self._say(f"{child.name} {_how_it_ended(code)}, again in {delay_s:.1f} s: {child.log}")
            await asyncio.sleep(delay_s)
            # A start that fails (memory, a file gone) is one more death: counted, tried again.
            while child.process is None:
                try:
                    await _launch(child)
                except OSError as error:
                    failures += 1
                    self._say(f"{child.name} cannot be started: {error.strerror}")
                    await asyncio.sleep(backoff_s(failures))
            self.restarts[child.name] += 1


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many quick deaths in a row: 0.2, 0.4, 0.8, ... at most 5."""
    # The exponent is bounded too: 2.0 ** 2000 would overflow.
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures, 10))


def spawn(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start one process in its own group, output appended to `log`; call it from any thread.

    It is started by a thread that lives as long as this program, so the kernel's guard holds
    even when the calling thread ends. Hand it to `end` when done. Raises OSError.
    """
    with _spawner_lock:
        if not _spawner.is_alive():
            _spawner.start()
    answer: Future[subprocess.Popen[bytes]] = Future()
    _spawn_requests.put((answer, argv, log, env))
    return answer.result()


def end(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """Stop a spawned process (SIGTERM, then SIGKILL after `timeout_s`); its exit code.

    A timeout of 0 kills at once. Whatever its group still holds is killed. May be called again.
    """
    try:
        if process.poll() is None and timeout_s > 0:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
    finally:
        _end_group(process.pid)
    return process.wait()


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a log, for people."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-count:]) or "(it is empty)"


class ProjectLock:
    """One holder at a time for a folder: a lock on a file that names its holder.

    The kernel lets go when the holder ends, however it ends, so a stale file blocks nobody.
    """

    def __init__(self, path: Path, what: str = "a demo") -> None:
        self._path = path
        self._what = what
        self._file: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take the lock, waiting at most `wait_s`. Raises LocalError that names the holder."""
        assert self._file is None, "this lock is held already"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    text = os.pread(file, 1000, 0).decode(errors="replace")
                    os.close(file)
                    raise LocalError(self._conflict(text)) from error
                time.sleep(0.1)
        os.ftruncate(file, 0)
        started = time.strftime("%H:%M:%S")
        os.pwrite(file, f"{os.getpid()}\n{started}\n{self._what}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Let go; harmless when not held. The file stays: removing it would race with others."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def _conflict(self, text: str) -> str:
        lines = text.splitlines()
        if len(lines) != 3:  # It has the lock but has not written its name yet.
            return f"{self._what} already runs in {self._path.parent}: stop it first"
        pid, started, what = lines
        return (
            f"{what} already runs (pid {pid}, started {started}): stop it first with `kill {pid}`"
        )


async def _launch(child: _Child) -> None:
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with child.log.open("ab") as log:
        child.process = await asyncio.create_subprocess_exec(
            *child.argv,
            env=child.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
    _live_groups.add(child.process.pid)


def _die_with_parent() -> Callable[[], None] | None:
    """What a Linux child runs before its program: ask the kernel to kill it when we are gone.

    SIGKILL, not SIGTERM: a child that ignores or delays SIGTERM would be nobody's child.
    """
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def ask() -> None:
        libc.prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG.
        # We may have died before the call above; then its signal never comes.
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _end_group(pid: int) -> None:
    """Kill what is left of a group, and forget it."""
    _signal_group(pid, signal.SIGKILL)
    _live_groups.discard(pid)


def _end_all_groups() -> None:
    for pid in list(_live_groups):
        _end_group(pid)


def _how_it_ended(code: int) -> str:
    return f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"


def _serve_spawns() -> None:
    while True:
        answer, argv, log, env = _spawn_requests.get()
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                process = subprocess.Popen(
                    argv,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(),
                )
        except OSError as error:
            answer.set_exception(error)
            continue
        _live_groups.add(process.pid)
        answer.set_result(process)


# Loaded here, because between fork and exec a child of a threaded program must not load anything.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_live_groups: set[int] = set()
atexit.register(_end_all_groups)

_Request = tuple["Future[subprocess.Popen[bytes]]", Sequence[str], Path, Mapping[str, str] | None]
_spawn_requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
_spawner_lock = threading.Lock()
_spawner = threading.Thread(target=_serve_spawns, name="spawner", daemon=True)
