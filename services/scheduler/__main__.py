"""Start a scheduler: `python -m services.scheduler`. Start two, and one stands by."""

from libs.common.adapters.service import Context, run
from services.scheduler.app import Scheduler
from services.scheduler.settings import SchedulerSettings


async def main(chosen: SchedulerSettings, context: Context) -> None:
    """Run the service until it is cancelled."""
    scheduler = Scheduler(context.bus, context.clock, context.origin, chosen.scheduler)
    context.health.ready_when("view", scheduler.view_fault)
    context.health.ready_when("ticks", scheduler.tick_fault)
    await scheduler.serve()


if __name__ == "__main__":
    run("scheduler", SchedulerSettings, main)
