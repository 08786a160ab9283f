"""Starts the executor: `python -m services.executor`."""

from pathlib import Path

from libs.common import ticks
from libs.common.adapters.service import Context, run
from libs.fleet.spec import read_fleet
from libs.fleet.warm import warm
from services.executor.app import Executor
from services.executor.settings import ExecutorSettings


async def serve(settings: ExecutorSettings, context: Context) -> None:
    """Simulate the fleet of the file until cancelled."""
    section = settings.executor
    spec = read_fleet(Path(section.fleet_file))
    await context.compile(_warm, "compiling the fleet's kernels: once, some 30 s")
    executor = Executor(section, spec, context.bus, context.clock, context.origin)
    context.health.ready_when("registry", executor.fault)
    await executor.serve()


def _warm() -> None:
    warm()
    ticks.warm()


if __name__ == "__main__":
    run("executor", ExecutorSettings, serve)
