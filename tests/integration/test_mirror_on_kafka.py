"""Whole schedulers on a real Kafka with a real Redis that comes late, is emptied, and goes."""

import asyncio
from contextlib import suppress

import pytest

from cli.latest import latest
from cli.local.servers import RedisServer
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.clock import WallClock
from libs.common.adapters.service import Context
from libs.common.messages import FleetState, GpuState, ReplicaState
from libs.common.ports import Bus
from libs.common.settings import KafkaSection, load
from libs.common.telemetry import Health
from libs.common.topics import FLEET_STATE, LOAD_FORECASTS, REGISTRY_DEVICES, REGISTRY_MODELS
from libs.common.wire import Origin
from services.scheduler.__main__ import main
from services.scheduler.settings import SchedulerSettings
from tests.conftest import Connect
from tests.scheduler.fleets import GB, a_forecast, a_model, some_devices

pytestmark = pytest.mark.bus
TEST = Origin("test", "test")


async def a_fleet(bus: Bus) -> None:
    """Publish a model with a replica on one GPU, then its forecasts, each 100 ms."""
    clock = WallClock()
    now_ms = clock.now_ms()
    out = [wire.encode(REGISTRY_MODELS, "chat", a_model(), TEST, "m", now_ms)]
    for device in some_devices(1, 1):
        out.append(wire.encode(REGISTRY_DEVICES, device.device, device, TEST, "d", now_ms))
    await bus.publish(out)
    replica = ReplicaState(
        replica="chat@n-0:0", model="chat", gpus=(0,), state="resident", memory_bytes=18 * GB
    )
    gpu = GpuState(gpu=0, memory_bytes_total=80 * GB, memory_bytes_free=62 * GB)
    while True:
        taken_ms = clock.now_ms() // 100 * 100 + 100
        await clock.sleep_until_ms(taken_ms + 20)
        fleet = FleetState(node="n-0", at_ms=taken_ms, gpus=(gpu,), replicas=(replica,))
        forecast = a_forecast("chat", taken_ms, 50.0)
        batch = pb.LoadForecasts(partition=0, at_ms=taken_ms, forecasts=[forecast])
        await bus.publish(
            [
                wire.encode(FLEET_STATE, "n-0", fleet, TEST, f"s-{taken_ms}", taken_ms),
                wire.encode(LOAD_FORECASTS, "0", batch, TEST, f"f-{taken_ms}", taken_ms),
            ]
        )


async def until(source: str, why: str = "") -> float:
    """Ask as a person does until the answer comes from there; returns the age of the forecast."""
    while True:
        found = await latest()
        if found.source == source and why in found.note and "chat" in found.tables:
            assert [route.replica for route in found.tables["chat"].replicas] == ["chat@n-0:0"]
            return WallClock().now_ms() - found.forecasts["chat"].newest_sample_ms
        await asyncio.sleep(0.05)


async def test_redis_may_come_and_go_and_the_answer_is_only_slower(
    connect: Connect,
    kafka_section: KafkaSection,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis_server.stop()
    monkeypatch.setenv("PLIMSOLL_REDIS__URL", redis_server.url)
    monkeypatch.setenv("PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS", kafka_section.bootstrap_servers)
    monkeypatch.setenv("PLIMSOLL_KAFKA__TOPIC_PREFIX", kafka_section.topic_prefix)
    settings = load(SchedulerSettings)
    health = {name: Health(20.0) for name in ("a", "b")}
    async with connect("test") as bus, connect("a") as bus_a, connect("b") as bus_b:
        running = [
            asyncio.create_task(
                main(settings, Context(Origin("scheduler", name), its, WallClock(), health[name]))
            )
            for name, its in (("a", bus_a), ("b", bus_b))
        ]
        running.append(asyncio.create_task(a_fleet(bus)))
        try:
            async with asyncio.timeout(90):
                await until("log", "away")
                for name in ("a", "b"):
                    health[name].check()
                    assert health[name].missing() == {}, "ready without it"
                redis_server.start()
                assert await until("redis") < 2000
                redis_server.stop()
                redis_server.start()
                await until("redis")
                running[0].cancel()  # one writer alone
                redis_server.stop()
                await asyncio.sleep(3)
                redis_server.start()
                assert await until("redis") < 2000
            assert not any(task.done() for task in running[1:])
        finally:
            for task in running:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
