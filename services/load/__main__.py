"""Starts the load generator: `python -m services.load`. It ends by itself when all is sent."""

from libs.common.adapters.service import Context, run
from services.load.app import Sender, plan_of, send_without_end
from services.load.settings import LoadSettings


async def serve(settings: LoadSettings, context: Context) -> None:
    """Send what the settings ask for."""
    world = (context.bus, context.clock, context.origin)
    name = settings.load.run or str(context.clock.now_ms())
    if settings.load.duration_s == 0:
        await send_without_end(settings.load, name, *world)
    else:
        await Sender(plan_of(settings.load), name, *world).send()


if __name__ == "__main__":
    run("load", LoadSettings, serve)
