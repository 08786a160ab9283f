"""Starts a predictor worker: `python -m services.predictor`."""

import asyncio

from libs.common import ticks
from libs.common.adapters import kafka_admin
from libs.common.adapters.service import Context, run
from libs.common.ports import Start
from services.predictor.app import Predictor
from services.predictor.core.warm import warm
from services.predictor.declared import TOPICS, Declared, catch_up
from services.predictor.parts import Parts
from services.predictor.settings import PredictorSettings
from services.predictor.stream import Stream

# Of the session of a leader. Here the client shares its interpreter with the kernels, and a member
# that is put out of the group by mistake costs all of them a pause.
SESSIONS = 2


async def main(settings: PredictorSettings, context: Context) -> None:
    """Serve until cancelled; an error in any part ends them all."""
    await context.compile(warm, "compiling the kernels: once, some 10 s")
    policy = settings.predictor.policy()
    await asyncio.to_thread(ticks.warm)
    declared = Declared(context.clock)
    every_ms = settings.predictor.snapshot_ms
    parts = Parts(context.origin, context.bus, context.clock, declared, policy, every_ms)
    predictor = Predictor(context.origin, context.bus, context.clock, policy, declared, parts)
    minimum_ms = await kafka_admin.wait_until_ready(settings.kafka)
    session_ms = kafka_admin.session_ms(SESSIONS * settings.kafka.session_timeout_ms, minimum_ms)
    async with context.bus.tail(TOPICS, Start.EARLIEST) as reader:
        await catch_up(declared, reader)
        stream = Stream(settings.kafka, session_ms, predictor.take, predictor.keep, parts.release)
        context.health.ready_when("samples", stream.probe)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(parts.run())
            tasks.create_task(predictor.follow(reader))
            tasks.create_task(predictor.send())
            tasks.create_task(predictor.look())
            tasks.create_task(stream.run())


if __name__ == "__main__":
    run("predictor", PredictorSettings, main)
