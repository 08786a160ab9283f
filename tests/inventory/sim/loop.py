"""An event loop whose time is virtual and whose order of tasks is drawn from a seed.

Every callback belongs to a process, by its context. A process that was killed runs no more, not
even its `finally`; one that is paused goes on later where it was, as after SIGSTOP and SIGCONT.
"""

import asyncio
import contextvars
import heapq
import itertools
import random

PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Process:
    """One instance of the service."""

    def __init__(self, name: str, skew_ms: int) -> None:
        self.name = name
        self.skew_ms = skew_ms
        self.alive = True
        self.paused = False
        self.parked: list[asyncio.Handle] = []


class _Task(asyncio.Task):
    """Hashed by its number: a TaskGroup cancels its tasks in the order of a set."""

    def __init__(self, number, *args, **named):
        self._number = number
        super().__init__(*args, **named)

    def __hash__(self):
        return self._number


class SimLoop(asyncio.BaseEventLoop):
    """Runs one callback at a time, any of those that are ready."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._now_s = 0.0
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task] = []
        self.crash_at_step: int | None = None  # of a process
        self.steps = 0  # that processes have run
        self.on_crash = lambda process: None
        self.errors: list[str] = []
        self.set_task_factory(self._new_task)
        self.set_exception_handler(lambda _, what: self.errors.append(what["message"]))

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now_s

    def resume(self, process: Process) -> None:
        """Let a paused process go on."""
        process.paused = False
        self._ready.extend(process.parked)
        process.parked.clear()

    def end(self) -> None:
        """Close what the killed left unfinished, quietly, and then the loop."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False
                for _ in range(5):  # a TaskGroup waits for its tasks first
                    try:
                        task.get_coro().close()
                        break
                    except BaseException:
                        continue
        self._ready.clear()
        self._scheduled.clear()
        self.close()

    def _new_task(self, loop, coro, **named):
        task = _Task(next(self._numbers), coro, loop=loop, **named)
        self._tasks.append(task)
        return task

    def _write_to_self(self):
        raise AssertionError("a thread has no place in a simulation")

    def _process_events(self, events):
        raise AssertionError("there are no sockets here")

    def _run_once(self):
        if not self._ready:
            self._now_s = max(self._now_s, self._scheduled[0].when())
        while self._scheduled and self._scheduled[0].when() <= self._now_s:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            self._ready.append(handle)
        position = self._rng.randrange(len(self._ready))
        self._ready.rotate(-position)
        handle = self._ready.popleft()
        self._ready.rotate(position)
        if not handle.cancelled():
            self._run(handle)

    def _run(self, handle):
        process = handle._context.get(PROCESS)
        if process is not None:
            if not process.alive:
                return
            if process.paused:
                process.parked.append(handle)
                return
            if self.steps == self.crash_at_step:
                self.crash_at_step = None
                self.on_crash(process)
                return
            self.steps += 1
        handle._run()
