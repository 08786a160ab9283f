"""Starts a predictor worker: `python -m services.predictor`."""

import asyncio

from libs.common import ticks
from libs.common.adapters.service import Context, run
from libs.common.ports import Start
from libs.common.topics import LOAD_TRIGGERS, METRICS_LAYOUTS, REGISTRY_DEVICES, REGISTRY_MODELS
from services.predictor.app import Predictor, catch_up
from services.predictor.core.warm import warm
from services.predictor.settings import PredictorSettings
from services.predictor.stream import Stream

DECLARATIONS = (METRICS_LAYOUTS, REGISTRY_MODELS, REGISTRY_DEVICES, LOAD_TRIGGERS)


async def main(settings: PredictorSettings, context: Context) -> None:
    """Serve until cancelled; an error in any part ends them all."""
    # Some seconds where no cache has the kernels: in a thread, so that others may ask how we are.
    warmed = asyncio.ensure_future(asyncio.to_thread(warm))
    context.health.ready_when(
        "kernels",
        lambda: None if warmed.done() else "compiling the kernels: once, some 10 s",
        vital=False,  # slow on a busy machine, and no faster in a new process
    )
    await warmed
    policy = settings.predictor.policy()
    await asyncio.to_thread(ticks.warm)
    predictor = Predictor(context.origin, context.bus, context.clock, policy)
    async with context.bus.tail(DECLARATIONS, Start.EARLIEST) as reader:
        await catch_up(predictor, reader)
        stream = Stream(settings.kafka, predictor.take, predictor.keep)
        context.health.ready_when("samples", stream.probe)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(predictor.follow(reader))
            tasks.create_task(predictor.send())
            tasks.create_task(predictor.forget())
            tasks.create_task(stream.run())


if __name__ == "__main__":
    run("predictor", PredictorSettings, main)
