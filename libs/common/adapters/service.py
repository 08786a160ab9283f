"""The whole of a `__main__`: from the environment to a running service, and to its clean end."""

import asyncio
import contextlib
import fcntl
import inspect
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from libs.common import settings, telemetry
from libs.common.adapters.clock import WallClock
from libs.common.adapters.kafka import KafkaBus
from libs.common.errors import SettingError
from libs.common.ports import Bus, Clock
from libs.common.settings import Settings
from libs.common.telemetry import Health
from libs.common.wire import Origin

S = TypeVar("S", bound=Settings)
EXIT_SETTING = 2


@dataclass(frozen=True)
class Context:
    """What a service is given to live on."""

    origin: Origin
    bus: Bus
    clock: Clock
    health: Health

    async def compile(self, kernels: Callable[[], None], said: str) -> None:
        """Compile in a thread, so that others may ask how we are; `said` is what is missing then.

        It is slow on a busy machine, and no faster in a new process: nobody ends this one for it.
        Of several instances beside each other one compiles, and the others read what it left.
        """

        def in_turn() -> None:
            with open(inspect.getfile(kernels)) as ours:
                fcntl.flock(ours, fcntl.LOCK_EX)
                kernels()

        compiled = asyncio.ensure_future(asyncio.to_thread(in_turn))
        self.health.ready_when("kernels", lambda: None if compiled.done() else said, vital=False)
        await compiled


def run(service: str, kind: type[S], serve: Callable[[S, Context], Awaitable[None]]) -> None:
    """Read the settings, wait for the bus, run `serve` until it ends or a signal comes.

    Exits with 2 and one line on stderr for a wrong setting, with 1 and one log line for an
    exception, with 0 after SIGTERM or SIGINT.
    """
    try:
        chosen = settings.load(kind)
        telemetry.configure_logs(service, chosen.instance, chosen.telemetry.log_level)
        asyncio.run(_run(service, chosen, serve))
    except SettingError as error:
        print(f"plimsoll {service}: {error}", file=sys.stderr)
        sys.exit(EXIT_SETTING)
    except Exception:
        structlog.get_logger().critical("ended by an error", exc_info=True)
        sys.exit(1)


async def _run(service: str, chosen: S, serve: Callable[[S, Context], Awaitable[None]]) -> None:
    log = structlog.get_logger()
    health = Health(chosen.telemetry.stuck_after_s)
    try:
        port = telemetry.serve_http(health, chosen.telemetry.host, chosen.telemetry.port)
    except OSError as error:
        raise SettingError(
            f"PLIMSOLL_TELEMETRY__PORT={chosen.telemetry.port}: {error.strerror}; "
            "0 takes a free port"
        ) from error
    log.info("telemetry", url=f"http://{chosen.telemetry.host}:{port}")

    current = asyncio.current_task()
    assert current is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, current.cancel)

    # A signal is the usual end of a service, and no error.
    with contextlib.suppress(asyncio.CancelledError):
        beats = asyncio.create_task(_beat(health))
        try:
            origin = Origin(service, chosen.instance)
            async with KafkaBus.connect(chosen.kafka, origin, health) as bus:
                log.info("ready to work", broker=chosen.kafka.bootstrap_servers)
                telemetry.watch(health)
                await serve(chosen, Context(origin, bus, WallClock(), health))
        finally:
            beats.cancel()
    log.info("stopped")


async def _beat(health: Health) -> None:
    while True:
        health.check()
        await asyncio.sleep(1.0)
