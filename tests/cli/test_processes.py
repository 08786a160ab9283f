"""Children are restarted, and none outlives us; a second holder of a lock is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.local.processes import LocalError, ProjectLock, Supervisor, backoff_s, end, spawn

SLEEPER = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
# Ignores SIGTERM, and has a child of its own that does so too.
STUBBORN = (
    "/bin/sh",
    "-c",
    "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo $!; "
    "while :; do sleep 0.1; done",
)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet collected (a zombie) does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Return as soon as the condition holds; fail when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)


def quiet(_: str) -> None:
    """Say nothing."""


async def test_a_killed_child_comes_back_with_a_new_pid_and_is_counted(tmp_path: Path) -> None:
    said: list[str] = []
    async with Supervisor(say=said.append) as supervisor:
        first = await supervisor.start("sleeper", SLEEPER, log=tmp_path / "logs" / "sleeper.log")
        assert supervisor.restarts == {"sleeper": 0}
        supervisor.kill("sleeper")
        await until(lambda: supervisor.restarts["sleeper"] == 1)
        second = supervisor.pid("sleeper")
        assert second is not None
        assert second != first
        assert not alive(first)
        assert alive(second)
    assert not alive(second)
    assert len(said) == 1
    assert "sleeper was ended by signal 9" in said[0]


async def test_a_child_that_ends_well_is_restarted_too(tmp_path: Path) -> None:
    async with Supervisor(say=quiet) as supervisor:
        await supervisor.start("brief", (sys.executable, "-c", ""), log=tmp_path / "log")
        await until(lambda: supervisor.restarts["brief"] == 2)


async def test_a_stopped_child_stays_away_and_the_others_stay(tmp_path: Path) -> None:
    async with Supervisor(say=quiet) as supervisor:
        one = await supervisor.start("one", SLEEPER, log=tmp_path / "one.log")
        two = await supervisor.start("two", SLEEPER, log=tmp_path / "two.log")
        await supervisor.stop("one")
        assert not alive(one)
        assert alive(two)
        assert supervisor.restarts["one"] == 0


async def test_stopping_all_leaves_none_even_of_those_that_will_not_go(tmp_path: Path) -> None:
    supervisor = Supervisor(say=quiet)
    log = tmp_path / "stubborn.log"
    pids = [
        await supervisor.start("sleeper", SLEEPER, log=tmp_path / "sleeper.log"),
        await supervisor.start("stubborn", STUBBORN, log=log),
    ]
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    pids.append(int(log.read_text()))
    assert all(alive(pid) for pid in pids)
    await supervisor.stop_all(timeout_s=0.3)
    await until(lambda: not any(alive(pid) for pid in pids))
    await supervisor.stop_all()


async def test_stopping_between_two_lives_leaves_none(tmp_path: Path) -> None:
    supervisor = Supervisor(say=quiet)
    started = tmp_path / "log"
    await supervisor.start("brief", ("/bin/sh", "-c", "echo $$"), log=started)
    await until(lambda: supervisor.pid("brief") is None)
    await supervisor.stop_all()
    lives = len(started.read_text().splitlines())
    await asyncio.sleep(backoff_s(0) * 2)  # Nothing to await: the proof is that nothing happens.
    assert len(started.read_text().splitlines()) == lives


async def test_an_error_in_the_block_still_stops_the_children(tmp_path: Path) -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with Supervisor(say=quiet) as supervisor:
            pids.append(await supervisor.start("sleeper", SLEEPER, log=tmp_path / "log"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await fail()
    assert not alive(pids[0])


async def test_a_program_that_does_not_exist_is_a_plain_error(tmp_path: Path) -> None:
    async with Supervisor(say=quiet) as supervisor:
        with pytest.raises(LocalError, match=r"cannot start ghost .*No such file"):
            await supervisor.start("ghost", ("/no/such/program",), log=tmp_path / "log")


async def test_environment_and_log_are_the_childs_own(tmp_path: Path) -> None:
    async with Supervisor(say=quiet) as supervisor:
        script = "import os, time; print(os.environ['WHO'], flush=True); time.sleep(600)"
        log = tmp_path / "log"
        await supervisor.start("a", (sys.executable, "-c", script), log=log, env={"WHO": "me"})
        await until(lambda: log.read_text() == "me\n")


def test_backoff_doubles_and_is_bounded() -> None:
    assert [backoff_s(n) for n in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert backoff_s(100_000) == 5.0


SUPERVISING = """
import asyncio, sys, threading
from pathlib import Path
from cli.local.processes import Supervisor, spawn

async def main():
    folder = Path(sys.argv[1])
    supervisor = Supervisor()
    argv = (sys.executable, "-c", "import time; time.sleep(600)")
    spawned = []
    caller = threading.Thread(target=lambda: spawned.append(spawn(argv, log=folder / "b.log")))
    caller.start()
    caller.join()
    print(await supervisor.start("a", argv, log=folder / "a.log"), spawned[0].pid, flush=True)
    if sys.argv[2] == "wait":
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ["killed", "forgetful"])
def test_children_die_with_a_supervisor_that_could_not_stop_them(
    tmp_path: Path, ending: str
) -> None:
    if ending == "killed" and sys.platform != "linux":
        pytest.skip("only Linux kills the children of a process killed with -9")
    command = [sys.executable, "-c", SUPERVISING, str(tmp_path)]
    command.append("wait" if ending == "killed" else "leave")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        children = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(children) == 2
        if ending == "killed":
            assert all(alive(pid) for pid in children)
            supervisor.kill()
        supervisor.wait(10)
    asyncio.run(until(lambda: not any(alive(pid) for pid in children)))


def test_a_spawned_process_outlives_the_thread_that_asked_for_it(tmp_path: Path) -> None:
    asked: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: asked.append(spawn(SLEEPER, log=tmp_path / "log")))
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        asked[0].wait(0.3)
    assert end(asked[0], timeout_s=10.0) == -signal.SIGTERM
    assert end(asked[0], timeout_s=10.0) == -signal.SIGTERM


def test_ending_at_once_kills(tmp_path: Path) -> None:
    assert end(spawn(SLEEPER, log=tmp_path / "log"), timeout_s=0.0) == -signal.SIGKILL


def test_spawning_nothing_raises_in_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn(("/no/such/program",), log=tmp_path / "log")


def test_a_second_holder_is_refused_and_told_whom_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "state" / "demo.lock"
    refusal = (
        rf"^a demo already runs \(pid {os.getpid()}, started \d\d:\d\d:\d\d\): "
        rf"stop it first with `kill {os.getpid()}`$"
    )
    with ProjectLock(path), pytest.raises(LocalError, match=refusal):
        ProjectLock(path).acquire()


def test_a_lock_let_go_is_free_again(tmp_path: Path) -> None:
    path = tmp_path / "demo.lock"
    first = ProjectLock(path)
    first.acquire()
    first.release()
    first.release()
    with ProjectLock(path):
        pass


def test_a_holder_that_was_killed_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "demo.lock"
    script = (
        "import sys, time; from pathlib import Path; from cli.local.processes import ProjectLock; "
        "ProjectLock(Path(sys.argv[1]), 'a bench').__enter__(); print(flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LocalError, match=f"a bench already runs .pid {holder.pid},"):
            ProjectLock(path).acquire()
        holder.kill()
    with ProjectLock(path):
        pass


def test_a_waiting_holder_gets_the_lock_once_it_is_free(tmp_path: Path) -> None:
    first, second = ProjectLock(tmp_path / "lock"), ProjectLock(tmp_path / "lock")
    first.acquire()
    release = threading.Timer(0.2, first.release)
    release.start()
    second.acquire(wait_s=10.0)
    second.release()
    release.join()
