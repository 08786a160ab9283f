"""Two schedulers on a real Kafka: one leads, one takes over from the state that was left."""

import asyncio
import time
from contextlib import suppress

import pytest

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.clock import WallClock
from libs.common.ports import Bus, Record, Start
from libs.common.topics import LOAD_FORECASTS, REGISTRY_DEVICES, REGISTRY_MODELS, SCHEDULER_TICKS
from libs.common.wire import Origin
from services.scheduler.app import Scheduler
from services.scheduler.core.policy import Policy
from services.scheduler.settings import SchedulerSection
from services.scheduler.tick_record import replay, state_in
from tests.conftest import Connect
from tests.scheduler.fleets import a_forecast, a_model, some_devices

pytestmark = pytest.mark.bus

TEST = Origin("test", "test")


async def forecast(bus: Bus) -> None:
    """Publish a forecast each 100 ms, 30 ms after the sample it is made of."""
    clock = WallClock()
    while True:
        taken_ms = clock.now_ms() // 100 * 100 + 100
        await clock.sleep_until_ms(taken_ms + 30)
        forecasts = [a_forecast("chat", taken_ms, 50.0)]
        batch = pb.LoadForecasts(partition=0, at_ms=taken_ms, forecasts=forecasts)
        out = wire.encode(LOAD_FORECASTS, "0", batch, TEST, f"f-{taken_ms}", taken_ms)
        await bus.publish([out])


async def test_a_successor_goes_on_where_the_leader_was_cut_off(connect: Connect) -> None:
    async with connect("test") as bus, connect("a") as bus_a, connect("b") as bus_b:
        now_ms = WallClock().now_ms()
        await bus.publish([wire.encode(REGISTRY_MODELS, "chat", a_model(), TEST, "m", now_ms)])
        await bus.publish(
            [
                wire.encode(REGISTRY_DEVICES, d.device, d, TEST, d.device, now_ms)
                for d in some_devices(1, 2)
            ]
        )
        running = {
            name: asyncio.create_task(
                Scheduler(
                    its_bus, WallClock(), Origin("scheduler", name), SchedulerSection()
                ).serve()
            )
            for name, its_bus in (("a", bus_a), ("b", bus_b))
        }
        source = asyncio.create_task(forecast(bus))
        found: list[tuple[Record, float]] = []
        try:
            async with asyncio.timeout(60), bus.tail([SCHEDULER_TICKS], Start.EARLIEST) as reader:

                async def ticks(until: int, epochs: int) -> None:
                    while (
                        len(found) < until or len({r.headers["epoch"] for r, _ in found}) < epochs
                    ):
                        found.extend((r, time.time()) for r in await reader.poll(0.5))

                await ticks(10, 1)
                leader = wire.decode_protobuf(found[-1][0], pb.TickRecord)
                name = "a" if found[-1][0].headers["ce_source"].endswith(b"/a") else "b"
                running[name].cancel()
                await ticks(len(found) + 10, 2)
        finally:
            for task in (*running.values(), source):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        records = [wire.decode_protobuf(record, pb.TickRecord) for record, _ in found]
        assert [r.tick for r in records] == list(range(records[0].tick, records[-1].tick + 1))
        first = next(r for r in records if r.epoch != leader.epoch)
        last = records[records.index(first) - 1]
        again = replay(state_in(last), first, Policy())
        assert wire.pack_columns(again.state) == first.state
