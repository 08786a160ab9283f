"""The services as processes of this machine, the load beside them, and what they say of themselves.

Each child has its log under `<out>/logs` and its telemetry at a port of its own. Nothing here
decides or draws.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cli.local.kafka import free_ports
from cli.local.processes import LocalError, Say, Supervisor, end, last_lines, spawn

ROOT = Path(__file__).parents[1]
BASE = ROOT / ".plimsoll"


class Service(NamedTuple):
    """One process to start: the name in logs and messages, and the package to run."""

    name: str
    package: str
    instance: str


EXECUTOR = Service("executor", "services.executor", "1")
PREDICTOR = Service("predictor", "services.predictor", "1")
SCHEDULERS = (
    Service("scheduler-a", "services.scheduler", "a"),
    Service("scheduler-b", "services.scheduler", "b"),
)
METRICS = Service("metrics", "services.metrics", "1")
INVENTORY = Service("inventory", "services.inventory", "1")
LOOP = (EXECUTOR, PREDICTOR, *SCHEDULERS)
ALL = (*LOOP, METRICS, INVENTORY)
# A service that ends twice while the others start will not come up by itself.
DEATHS_AT_START = 2


class Stack:
    """The services of one run; an async context manager that leaves no process behind."""

    def __init__(self, servers: str, out: Path, say: Say) -> None:
        self._servers = servers
        self._out = out
        self._supervisor = Supervisor(say)
        self._urls: dict[str, str] = {}

    async def __aenter__(self) -> "Stack":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._supervisor.stop_all()

    async def start(self, services: Sequence[Service]) -> None:
        """Start all at once; they wait for topics and for each other by themselves."""
        ports = free_ports(*[0] * len(services))
        for service, port in zip(services, ports, strict=True):
            self._urls[service.name] = f"http://127.0.0.1:{port}"
            await self._launch(service)

    async def restart(self, services: Sequence[Service], **settings: str) -> None:
        """Stop services and start them with more settings, their telemetry where it was."""
        for service in services:
            await self._supervisor.stop(service.name)
        for service in services:
            await self._launch(service, **settings)

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often each service was started again."""
        return self._supervisor.restarts

    def spawn_load(self, run: str, settings: Mapping[str, object]) -> "Load":
        """Start the load generator, which begins to send as soon as it can."""
        chosen = {f"PLIMSOLL_LOAD__{name.upper()}": str(v) for name, v in settings.items()}
        env = self._env("1", PLIMSOLL_TELEMETRY__PORT="0", PLIMSOLL_LOAD__RUN=run, **chosen)
        log = self.log("load")
        return Load(spawn([sys.executable, "-m", "services.load"], log=log, env=env), log)

    def log(self, name: str) -> Path:
        """Return where the output of a child goes."""
        return self._out / "logs" / f"{name}.log"

    def pid(self, service: Service) -> int | None:
        """Return the process id of a service; None while it is between two lives."""
        return self._supervisor.pid(service.name)

    def check(self) -> None:
        """Raise LocalError, with its last words, when a service does not stay up."""
        for name, deaths in self.restarts.items():
            if deaths >= DEATHS_AT_START:
                raise LocalError(
                    f"{name} does not stay up. The last lines of {self.log(name)}:\n"
                    + last_lines(self.log(name))
                )

    def address(self, service: Service) -> str:
        """Return host:port of a service's telemetry."""
        return self._urls[service.name].removeprefix("http://")

    async def get(self, service: Service, path: str) -> str:
        """Return a page of a service's telemetry, such as `/metrics`. Raises OSError."""
        return await asyncio.to_thread(_fetch, self._urls[service.name] + path)

    async def lacking(self) -> list[str]:
        """Return what each service that answers still waits for, in its own words."""
        said = []
        for name, url in self._urls.items():
            try:
                await asyncio.to_thread(_fetch, url + "/readyz")
            except urllib.error.HTTPError as answer:
                missing = json.loads(answer.read())["missing"]
                said += [f"{name}: {reason}" for reason in missing.values()]
            except OSError:
                said.append(f"{name}: starting")
        return said

    async def _launch(self, service: Service, **settings: str) -> None:
        port = self.address(service).partition(":")[2]
        await self._supervisor.start(
            service.name,
            [sys.executable, "-m", service.package],
            log=self.log(service.name),
            env=self._env(service.instance, PLIMSOLL_TELEMETRY__PORT=port, **settings),
        )

    def _env(self, instance: str, **more: str) -> dict[str, str]:
        return {
            "PLIMSOLL_EXECUTOR__FLEET_FILE": str(ROOT / "deploy" / "fleet.yaml"),
            "PLIMSOLL_INVENTORY__DATABASE_URL": f"sqlite+aiosqlite:///{self._out}/inventory.db",
            **os.environ,
            # Ten processes share a few cores: threads of a numeric library only get in the way.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PLIMSOLL_INSTANCE": instance,
            "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS": self._servers,
            **more,
        }


@dataclass(frozen=True)
class Progress:
    """How far the load generator is, as its last lines say."""

    start_ms: int | None = None
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    done: bool = False

    @property
    def total(self) -> int:
        """Sends that the bus has acknowledged."""
        return sum(self.acknowledged.values())


class Load:
    """The running load generator; its lines on stdout are read from its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def progress(self) -> Progress:
        """Return how far it is. Raises LocalError, with its last words, if it failed."""
        progress = progress_of(self._log.read_text().splitlines())
        if self._process.poll() not in (None, 0):
            raise LocalError(f"the load generator failed. {self._log}:\n{last_lines(self._log)}")
        return progress

    def stop(self) -> None:
        """End it if it still runs."""
        end(self._process, timeout_s=5.0)


def progress_of(lines: Sequence[str]) -> Progress:
    """Read the load generator's own account out of its log; other lines are passed over."""
    progress = Progress()
    for line in lines:
        try:
            said = json.loads(line)
        except json.JSONDecodeError:  # the last line may be half written
            continue
        if said.get("event") == "start":
            progress = Progress(start_ms=said["start_ms"])
        elif said.get("event") == "progress":
            progress = Progress(progress.start_ms, said["acknowledged"], said["done"])
    return progress


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5.0) as page:
        return str(page.read().decode())
