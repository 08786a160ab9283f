"""`plimsoll trigger`, a whole predictor and a real Kafka: what is typed is what is foreseen."""

import asyncio
import os
import sys
import time

import pytest

from cli.registry import publish_models
from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.ports import Reader, Start
from libs.common.settings import KafkaSection
from libs.common.topics import LOAD_FORECASTS, METRICS_LAYOUTS
from tests.conftest import ROOT, Connect
from tests.integration.test_predictor_on_kafka import ORIGIN, Ticks, start_predictor

pytestmark = [pytest.mark.bus, pytest.mark.timeout(180)]


async def plimsoll(section: KafkaSection, *arguments: str) -> tuple[int, str]:
    settings = {
        "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS": section.bootstrap_servers,
        "PLIMSOLL_KAFKA__TOPIC_PREFIX": section.topic_prefix,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", *arguments, cwd=ROOT, env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    return process.returncode or 0, (out + errors).decode()


async def newest(reader: Reader) -> list[pb.LoadForecast]:
    batches = [wire.decode_protobuf(r, pb.LoadForecasts) for r in await reader.poll(0.05)]
    return [forecast for batch in batches for forecast in batch.forecasts]


async def test_a_lift_that_was_typed_is_in_the_forecasts(
    connect: Connect, kafka_section: KafkaSection
) -> None:
    router = Ticks()
    key = router.layout.layout_id
    async with connect("a") as bus, bus.tail([LOAD_FORECASTS], Start.LATEST) as reader:
        await publish_models(bus)
        layout = wire.encode(METRICS_LAYOUTS, key, router.layout, ORIGIN, key, router.at_ms)
        await bus.publish([layout])
        predictor = start_predictor(kafka_section)
        try:
            status, said = await plimsoll(kafka_section, "trigger", "chta", "--factor", "3")
            assert status == 1
            assert "no model chta is registered; there are: chat" in said
            status, said = await plimsoll(
                kafka_section, "trigger", "chat", "--rate", "500", "--in", "2s", "--for", "90s"
            )
            assert status == 0, said
            assert "chat: 500/s from" in said
            lifted: list[pb.LoadForecast] = []
            async with asyncio.timeout(90):
                while not lifted:
                    router.at_ms = max(router.at_ms, time.time_ns() // 1_000_000 - 200)
                    await bus.publish([router.next()])
                    lifted = [forecast for forecast in await newest(reader) if forecast.lifts]
            assert max(lifted[0].peak_10s_quantile_rps) >= 500
            assert lifted[0].lifts[0].kind == "app"
        finally:
            predictor.terminate()
            assert await asyncio.to_thread(predictor.wait, 20) == 0
