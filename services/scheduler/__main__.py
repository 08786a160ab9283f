"""Start a scheduler: `python -m services.scheduler`. Start two, and one stands by."""

import asyncio

from libs.common.adapters.redis import RedisCache
from libs.common.adapters.service import Context, run
from services.scheduler.app import Scheduler
from services.scheduler.core.warm import warm
from services.scheduler.mirror import Mirror
from services.scheduler.settings import SchedulerSettings


async def main(chosen: SchedulerSettings, context: Context) -> None:
    """Run the service until it is cancelled."""
    # Before it stands, so that no tick waits for a compiler.
    await context.compile(warm, "compiling the kernels: once, some 20 s")
    scheduler = Scheduler(context.bus, context.clock, context.origin, chosen.scheduler)
    context.health.ready_when("view", scheduler.view_fault)
    context.health.ready_when("ticks", scheduler.tick_fault)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scheduler.serve())
        if chosen.redis.url:
            tasks.create_task(mirror(chosen, context))


async def mirror(chosen: SchedulerSettings, context: Context) -> None:
    """Keep the newest table and forecasts in Redis until cancelled."""
    url, prefix = chosen.redis.url, chosen.kafka.topic_prefix
    async with RedisCache.connect(url, prefix, context.origin.instance) as cache:
        await Mirror(context.bus, cache, context.clock).keep()


if __name__ == "__main__":
    run("scheduler", SchedulerSettings, main)
