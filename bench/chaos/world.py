"""What the chaos run runs: a real Kafka, a real database, the shipped service; and its faults."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from cli.local.kafka import LocalKafka
from cli.local.processes import LocalError, Say, Supervisor, last_lines
from cli.local.servers import PostgresServer

SERVICE = [sys.executable, "-m", "services.inventory"]
KINDS = ("kill", "pause", "broker", "database")
PAUSE_S = 2.0  # beyond the group's session: whoever paused finds its partitions with another
AWAY_S = 0.5


class World:
    """An async context manager: all of it up on entry, nothing left on exit."""

    def __init__(self, store: str, folder: Path, say: Say, instances: int = 2) -> None:
        self._store = store
        self._folder = folder
        self._say = say
        self._kafka = LocalKafka(folder, port=0, libs=_jars(), say=say)
        # The server runs as another user where we are root, who must be able to reach its data.
        self._data = Path(mkdtemp(prefix="plimsoll-chaos-"))
        self._postgres = PostgresServer(self._data) if store == "postgres" else None
        self._services = Supervisor(say)
        count = instances if self._postgres else 1  # a file is one process's
        self._names = [f"inventory-{letter}" for letter in "abc"[:count]]
        self.url = f"sqlite+aiosqlite:///{folder.resolve()}/inventory.db"

    @property
    def servers(self) -> str:
        """Where Kafka answers."""
        return self._kafka.bootstrap_servers

    @property
    def kinds(self) -> tuple[str, ...]:
        """The faults that this world can have."""
        return KINDS if self._postgres else tuple(kind for kind in KINDS if kind != "database")

    async def __aenter__(self) -> "World":
        try:
            await asyncio.to_thread(self._kafka.start)
            if self._postgres is not None:
                await asyncio.to_thread(self._postgres.make)
                await asyncio.to_thread(self._postgres.start)
                self.url = self._postgres.create("inventory")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._services.stop_all()
        self._kafka.stop()
        if self._postgres is not None:
            self._postgres.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    async def start_services(self) -> None:
        """Make the schema, then start every instance. Raises LocalError."""
        await self._migrate()
        for name in self._names:
            await self._services.start(
                name, SERVICE, log=self._log(name), env={**self._env, "PLIMSOLL_INSTANCE": name[-1]}
            )

    async def start_row_at_a_time(self) -> None:
        """Start, in the service's place, one that is written as it usually is."""
        await self._migrate()
        name = self._names[0]
        command = [sys.executable, "-m", "bench.chaos.row_at_a_time", self.servers, self.url]
        await self._services.start(name, command, log=self._log(name))

    async def _migrate(self) -> None:
        migrating = await asyncio.create_subprocess_exec(*SERVICE, "migrate", env=self._env)
        if await migrating.wait() != 0:
            raise LocalError("the database could not be brought to the newest schema")

    @property
    def _env(self) -> dict[str, str]:
        return {
            **os.environ,
            "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "PLIMSOLL_INVENTORY__DATABASE_URL": self.url,
            "PLIMSOLL_TELEMETRY__PORT": "0",
        }

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def last_words(self) -> str:
        """Return the ends of the services' logs."""
        return "\n".join(last_lines(self._log(name), 5) for name in self._names)

    async def fail(self, kind: str, number: int) -> str:
        """Do one fault, and mend what does not mend by itself; returns what it was, in words."""
        name = self._names[number % len(self._names)]
        if kind == "kill":
            return await self._kill(name)
        if kind == "pause":
            return await self._pause(name)
        if kind == "broker":
            await self._restart(self._kafka.kill, self._kafka.start)
            return "the broker was killed, and is back"
        assert self._postgres is not None, kind
        await self._restart(self._postgres.stop, self._postgres.start)
        return "the database was killed, and is back"

    async def _kill(self, name: str) -> str:
        pid = await self._alive(name)
        self._services.kill(name)
        while self._services.pid(name) in (pid, None):  # its next life has begun
            await asyncio.sleep(0.02)
        return f"{name} was killed, and is back"

    async def _pause(self, name: str) -> str:
        pid = await self._alive(name)
        with suppress(ProcessLookupError):  # it may end by itself at any time
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(PAUSE_S)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return f"{name} was paused for {PAUSE_S:g} s"

    async def _alive(self, name: str) -> int:
        while (pid := self._services.pid(name)) is None:
            await asyncio.sleep(0.02)
        return pid

    async def _restart(self, stop: Callable[[], None], start: Callable[[], object]) -> None:
        await asyncio.to_thread(stop)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(start)


def _jars() -> Path:
    """Where other runs on this machine have put Kafka's jars."""
    return Path(__file__).parents[2] / ".plimsoll" / "kafka" / "libs"
