"""Starts the collectors of this machine: `python -m services.metrics`."""

import asyncio

from libs.common.adapters.host import PsutilHost
from libs.common.adapters.nvml import NvmlDevice
from libs.common.adapters.service import Context, run
from libs.common.ticks import CODED_FROM, warm
from services.metrics.app import collect, collectors_of
from services.metrics.settings import MetricsSettings


async def main(settings: MetricsSettings, context: Context) -> None:
    """Run every collector until cancelled; an error in one ends them all."""
    node = settings.metrics.node
    found = collectors_of(settings.metrics, PsutilHost(), NvmlDevice.open())
    if any(len(collector.series) >= CODED_FROM for collector in found):
        await asyncio.to_thread(warm)
    async with asyncio.TaskGroup() as tasks:
        for collector in found:
            tasks.create_task(
                collect(collector, node, context.origin, context.bus, context.clock, context.health)
            )


if __name__ == "__main__":
    run("metrics", MetricsSettings, main)
