import math

import pytest
from rich.console import Console

from cli.top import render
from cli.view import View, fold
from libs.common import plimsoll_pb2 as pb
from libs.common import series, topics
from libs.common.messages import (
    Explanation,
    FleetState,
    GpuState,
    LeaderClaim,
    ReplicaState,
    ScaleModel,
    SetBatch,
)
from libs.common.ports import Outgoing, Record
from tests.cli.records import CHAT, Log, Source, counter, gauge

GIB = 1 << 30


def folded(*records: Record) -> View:
    view = View()
    for record in records:
        fold(view, record)
    return view


def router(log: Log) -> Source:
    return Source(
        log,
        "router/0",
        [
            counter(series.ARRIVALS, model="chat"),
            gauge(series.QUEUE, model="chat"),
            counter(series.LATENCY_RATIO, model="chat", bucket=18),
            counter(series.LATENCY_RATIO, model="chat", bucket=22),
        ],
    )


def fleet(at_ms: int = 0) -> FleetState:
    def replica(gpu: int, state: str) -> ReplicaState:
        return ReplicaState.model_validate(
            {
                "replica": f"chat@n:{gpu}",
                "model": "chat",
                "gpus": [gpu],
                "state": state,
                "memory_bytes": 4 * GIB,
            }
        )

    gpus = tuple(
        GpuState(gpu=i, memory_bytes_total=16 * GIB, memory_bytes_free=12 * GIB) for i in range(2)
    )
    return FleetState(
        node="n", at_ms=at_ms, gpus=gpus, replicas=(replica(0, "resident"), replica(1, "loading"))
    )


def test_rates_come_from_counters_and_the_queue_as_it_stands() -> None:
    log = Log()
    source = router(log)
    ticks = [source.tick(100 * i, 5 * i, i, 0, 0) for i in range(31)]
    chat = folded(source.layout(), *ticks).models["chat"]
    assert chat.totals.rate_per_s(series.ARRIVALS) == pytest.approx(50)
    assert chat.totals.values[series.QUEUE] == 30


def test_a_restarted_router_counts_from_zero_and_no_rate_is_negative() -> None:
    log = Log()
    source = router(log)
    before = [source.tick(100 * i, 1000 + 5 * i, 0, 0, 0) for i in range(10)]
    after = [source.tick(1000 + 100 * i, 5 * (i + 1), 0, 0, 0) for i in range(10)]
    chat = folded(source.layout(), *before, *after).models["chat"]
    assert chat.totals.values[series.ARRIVALS] == 19 * 5
    assert chat.totals.rate_per_s(series.ARRIVALS) == pytest.approx(50)


def test_p99_is_of_the_last_ten_seconds() -> None:
    log = Log()
    source = router(log)
    # A hundred slow ends before the window, and then only quick ones.
    old = [source.tick(0, 0, 0, 0, 0), source.tick(100, 0, 0, 0, 100)]
    new = [source.tick(15_000 + 100 * i, 0, 0, 10 * i, 100) for i in range(20)]
    totals = folded(source.layout(), *old, *new).models["chat"].totals
    ratio = totals.latency_ratio(0.99)
    assert ratio is not None
    assert series.LATENCY_RATIO_EDGES[17] < ratio <= series.LATENCY_RATIO_EDGES[18]


def test_a_tick_that_comes_twice_or_before_its_layout_adds_nothing() -> None:
    log = Log()
    source = router(log)
    early, first, second = source.tick(0, 1, 0, 0, 0), source.tick(100, 5, 0, 0, 0), None
    second = source.tick(200, 8, 0, 0, 0)
    chat = folded(early, source.layout(), first, second, second, first).models["chat"]
    assert chat.totals.values[series.ARRIVALS] == 3


def test_a_value_that_is_not_known_leaves_the_last_one() -> None:
    log = Log()
    source = router(log)
    ticks = [source.tick(0, 0, 4, 0, 0), source.tick(100, math.nan, math.nan, 0, 0)]
    chat = folded(source.layout(), *ticks, source.tick(200, 6, math.nan, 0, 0)).models["chat"]
    assert chat.totals.values[series.QUEUE] == 4
    assert chat.totals.values[series.ARRIVALS] == 6


@pytest.mark.parametrize("topic", topics.TOPICS)
def test_what_cannot_be_read_changes_nothing(topic: topics.Topic) -> None:
    view = folded(Log().record(topics.REGISTRY_MODELS, CHAT))
    before = repr(view)
    fold(view, Log().raw(Outgoing(topic.name, "k", b"\xff{not a message")))
    if topic in (topics.DEAD_LETTERS, topics.SCHEDULER_TICKS):
        return  # their values are never looked at
    assert repr(view) == before


def test_the_leader_of_an_epoch_is_who_wrote_the_claim_at_that_offset() -> None:
    log = Log()
    claims = [LeaderClaim(instance=name, at_ms=5) for name in ("a", "b")]
    view = folded(*(log.record(topics.SCHEDULER_LEADER, claim) for claim in claims))
    assert (view.leader, view.epoch) == ("b", 1)


def test_the_screen_shows_models_gpus_and_why() -> None:
    log = Log()
    source = router(log)
    device = Source(log, "executor/n", [counter(series.GPU_BUSY_SERVING_S, device="n/0", node="n")])
    forecast = pb.LoadForecast(
        model="chat", horizon_ms=[8000], mean_rps=[61.0], quantile_rps=[61, 65, 70, 75, 80, 85]
    )
    why = Explanation(
        model="chat", epoch=0, tick=7, at_ms=0, action="scale", text="1 -> 2: load will double",
        bound="forecast", numbers={},
    )  # fmt: skip
    batch = SetBatch(
        id="0-7-1", replica="chat@n:0", model="chat", batch_size=12, wait_ms=3, serving_share=1
    )
    view = folded(
        log.record(topics.REGISTRY_MODELS, CHAT),
        source.layout(),
        device.layout(),
        *[source.tick(100 * i, 5 * i, 3, i, 0) for i in range(31)],
        *[device.tick(1000 * i, 0.25 * i) for i in range(5)],
        log.record(topics.LOAD_FORECASTS, pb.LoadForecasts(forecasts=[forecast])),
        log.record(topics.FLEET_STATE, fleet()),
        log.record(topics.SCHEDULER_LEADER, LeaderClaim(instance="a", at_ms=0)),
        log.record(topics.COMMANDS_SCALING, ScaleModel(id="0-7-0", model="chat", replicas=3)),
        log.record(topics.COMMANDS_BATCH, batch),
        log.record(topics.DECISIONS_EXPLAINED, why),
        log.raw(Outgoing(topics.SCHEDULER_TICKS.name, "", b"", {"tick": b"7"}), at_ms=2900),
        log.raw(Outgoing(topics.DEAD_LETTERS.name, "inference.requests", b"x")),
    )
    console = Console(width=120, record=True)
    console.print(render(view, 3000, title="driving"))
    text = console.export_text()
    for said in (
        "driving · leader a · epoch 0 · tick 7 0.1 s ago · 1 dead letters",
        "50.0",
        "61.0 (≤80) in 8 s",
        "1+1 → 3",
        "12",
        "400",
        "25 %",
        "4 of 16 GiB",
        "chat (loading)",
        "1 -> 2: load will double",
    ):
        assert said in text, said


def test_an_empty_view_is_drawn_too() -> None:
    console = Console(width=80, record=True)
    console.print(render(View(), 0))
    assert "no leader yet" in console.export_text()
