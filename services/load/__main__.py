"""Starts the load generator: `python -m services.load`. It ends by itself when all is sent."""

from libs.common.adapters.service import Context, run
from services.load.app import Sender, plan_of
from services.load.settings import LoadSettings


async def serve(settings: LoadSettings, context: Context) -> None:
    """Send what the settings ask for."""
    plan = plan_of(settings.load)
    name = settings.load.run or str(context.clock.now_ms())
    await Sender(plan, name, context.bus, context.clock, context.origin).send()


if __name__ == "__main__":
    run("load", LoadSettings, serve)
