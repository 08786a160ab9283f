"""A real Redis and a real PostgreSQL on free ports, for tests and trials."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from cli.local.kafka import free_ports
from cli.local.processes import LocalError, end, last_lines, spawn

HOST = "127.0.0.1"
START_S = 20.0


class RedisServer:
    """Debian's redis-server, with nothing stored: a new start is an empty one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self.port,) = free_ports(0)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        """Start it, and return once it listens. Raises LocalError."""
        program = shutil.which("redis-server")
        if program is None:
            raise LocalError("no redis-server on this machine: `make servers` installs it")
        options = ["--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"]
        log = self._folder / "redis.log"
        self._process = spawn([program, *options, "--dir", str(self._folder)], log=log)
        _wait_for(self.port, self._process, log)

    def pause(self) -> None:
        """Stop it where it stands: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; may be called again."""
        if self._process is not None:
            end(self._process, timeout_s=5.0)


class PostgresServer:
    """Debian's PostgreSQL on a data folder of its own, as an unprivileged user where we are root.

    That user must be able to reach `folder`, which becomes its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = "nobody" if os.geteuid() == 0 else None
        (self.port,) = free_ports(0)
        self._process: subprocess.Popen[bytes] | None = None
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))

    def url(self, database: str, *, user: str = "plimsoll", password: str = "secret") -> str:
        """Return the URL of a database, for this user."""
        return f"postgresql+asyncpg://{user}:{password}@{HOST}:{self.port}/{database}"

    def make(self) -> None:
        """Make the data folder, with the user `plimsoll` who must give a password."""
        if not (self.bin / "initdb").exists():
            raise LocalError("no PostgreSQL on this machine: `make servers` installs it")
        secret = self._folder / "password"
        secret.write_text("secret\n")
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            for path in (self._folder, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [
                *(self.bin / "initdb", "--pgdata", self._data, "--username", "plimsoll"),
                *("--pwfile", secret, "--auth", "scram-sha-256", "--no-sync"),
            ],
            user=self._user,
            cwd="/",
            check=True,
            capture_output=True,
        )

    def create(self, database: str) -> str:
        """Create a database; returns its URL."""
        self.run(f"CREATE DATABASE {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        """Remove a database, whoever is in it."""
        self.run(f"DROP DATABASE {database} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> None:
        """Run one SQL statement, waiting at most 10 s for a lock."""
        where = ["-h", HOST, "-p", str(self.port), "-U", "plimsoll", "-d", database]
        environment = {**os.environ, "PGPASSWORD": "secret", "PGOPTIONS": "-c lock_timeout=10s"}
        command = [str(self.bin / "psql"), "-qX", *where, "-c", statement]
        subprocess.run(command, check=True, env=environment)

    def start(self) -> None:
        """Start it, and return once it accepts connections. Raises LocalError."""
        argv = ["-D", str(self._data), "-p", str(self.port), "-h", HOST, "-k", str(self._folder)]
        # What only a power cut would need is left out. `synchronous_commit` is not of that kind: a
        # server that crashes without it forgets what it has committed.
        quick = ["-cfsync=off", "-cfull_page_writes=off"]
        as_user = ["setpriv", "--reuid", self._user, "--clear-groups"] if self._user else []
        log = self._folder / "postgres.log"
        self._process = spawn([*as_user, str(self.bin / "postgres"), *argv, *quick], log=log)
        _wait_for(self.port, self._process, log)
        ready = [str(self.bin / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        deadline = time.monotonic() + START_S
        while subprocess.run(ready).returncode != 0:
            if time.monotonic() > deadline:
                raise LocalError(f"PostgreSQL is not ready:\n{last_lines(log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a crash would; may be called again."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait(START_S)
            end(self._process, timeout_s=0)

    @property
    def _data(self) -> Path:
        return self._folder / "data"


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((HOST, port), 1.0).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LocalError(f"it does not start:\n{last_lines(log)}") from None
            time.sleep(0.02)
