"""The whole service on a bus in memory: what comes in, and what it makes of it."""

from collections import Counter

import pytest
from prometheus_client import REGISTRY

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import Ack, DeviceSpec, FleetState, InferenceRequest, ScaleModel
from libs.common.ports import Outgoing
from libs.common.ticks import Chains, Wait, layout_id
from libs.common.topics import (
    COMMANDS_ACKS,
    COMMANDS_PLACEMENT,
    COMMANDS_SCALING,
    DEAD_LETTERS,
    FLEET_STATE,
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    METRICS_LAYOUTS,
    METRICS_SAMPLES,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
    SCHEDULER_LEADER,
)
from libs.common.wire import decode_protobuf
from libs.fleet.model import FleetModel
from libs.fleet.router import Router
from services.executor import telemetry
from services.executor.sampler import Sampler
from tests.executor.stage import START_MS, TEST, FaultyBus, Stage, event_ids
from tests.fleet.worlds import GB, job, model, spec


def value(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


# --- Requests -------------------------------------------------------------------------------------


async def test_a_request_is_served_and_its_result_says_how() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.request()
        await stage.clock.advance(30)
    (result,) = stage.results()
    assert (result.request_id, result.status, result.replica) == ("r0", "ok", "m@n-0:0")
    # To the millisecond of the fleet's own time, though turns come each 5 ms.
    assert (result.latency_ms, result.batch_size) == (11, 1)
    assert event_ids(stage.bus.records(INFERENCE_RESULTS)) == [b"inference.requests-0-0-0"]


async def test_requests_wait_for_a_first_replica() -> None:
    stage = Stage()
    async with stage.running():
        await stage.register()
        await stage.request(3)
        await stage.clock.advance(500)
        assert stage.results() == []
        await stage.serving()
        await stage.clock.advance(100)
    assert [result.request_id for result in stage.results()] == ["r0", "r1", "r2"]
    assert {result.status for result in stage.results()} == {"late"}


async def test_what_cannot_be_read_or_names_no_model_is_buried_and_the_rest_goes_on() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        bad = [b"{", b'{"request_id": "x", "model": "m", "due_at_ms": "soon"}', b"[]"]
        await stage.bus.publish([Outgoing(INFERENCE_REQUESTS.name, "k", one) for one in bad])
        await stage.request(of="stranger")
        await stage.request()
        await stage.clock.advance(1200)
        reasons = [r.headers["dead-reason"].decode() for r in stage.bus.records(DEAD_LETTERS)]
        assert [reason.partition(":")[0] for reason in reasons] == [
            "not JSON", "due_at_ms", "message", "unknown model 'stranger'",
        ]  # fmt: skip
        assert [result.request_id for result in stage.results()] == ["r1"]
    # All five are done with, so nothing of them comes again.
    async with stage.running():
        await stage.clock.advance(1200)
        assert len(stage.bus.records(DEAD_LETTERS)) == 4
        assert len(stage.results()) == 1


async def test_after_a_crash_unfinished_requests_are_read_again_and_repeats_can_be_told() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.request(3)
        await stage.clock.advance(1500)  # served, and committed as such
        await stage.route(("m@n-0:0", 0), tick=1)
        await stage.request(4)
        await stage.clock.advance(1500)
        assert len(stage.results()) == 3
    async with stage.running():
        await stage.place("1-2-0")
        await stage.route(("m@n-0:0", 100), tick=2)
        await stage.clock.advance(1500)
        await stage.request(2)
        await stage.clock.advance(50)
    # This crash comes before the last commit: the last two are read once more.
    async with stage.running():
        await stage.place("1-4-0")
        await stage.clock.advance(3000)
    ids = [result.request_id for result in stage.results()]
    assert set(ids) == {f"r{number}" for number in range(9)}
    repeats = [name for name, count in Counter(ids).items() if count > 1]
    assert repeats
    assert set(repeats) <= {"r7", "r8", "r3", "r4", "r5", "r6"}
    # A repeat has the event id of the first: who counts by it counts once.
    assert len(set(event_ids(stage.bus.records(INFERENCE_RESULTS)))) == 9


async def test_while_the_broker_is_away_the_fleet_goes_on_and_nothing_is_lost() -> None:
    stage = Stage(fleet=spec(training=(job(),)))
    bus = FaultyBus(stage.bus)
    async with stage.running(bus) as executor:
        await stage.serving()
        steps = executor.fleet.gpus["n-0/1"].steps
        bus.up.clear()
        await stage.request(5)
        await stage.clock.advance(10_000)
        assert stage.results() == []
        assert executor.fleet.gpus["n-0/1"].steps == steps + 200
        bus.up.set()
        await stage.clock.advance(100)
    assert [result.request_id for result in stage.results()] == [f"r{i}" for i in range(5)]
    assert {result.status for result in stage.results()} == {"ok"}


async def test_a_request_is_committed_only_once_its_result_is_acknowledged() -> None:
    stage = Stage()
    bus = FaultyBus(stage.bus)
    async with stage.running(bus):
        await stage.serving()
        bus.up.clear()
        await stage.request(2)
        await stage.clock.advance(5000)  # served long ago, but nobody could be told
    async with stage.running():
        await stage.place("1-2-0")
        await stage.clock.advance(2000)
    assert [result.request_id for result in stage.results()] == ["r0", "r1"]


async def test_with_a_full_outbox_requests_stay_on_the_bus_and_samples_are_left_out() -> None:
    stage = Stage(outbox_max=3)
    bus = FaultyBus(stage.bus)
    async with stage.running(bus) as executor:
        await stage.serving()
        await stage.clock.advance(1000)
        bus.up.clear()
        await stage.request(10)
        await stage.clock.advance(20_000)
        assert value("plimsoll_executor_outbox_messages") < 40  # not the 200 samples of 20 s
        for _ in range(5):
            await stage.request(10)
        # One poll may have begun in better times; no more are read.
        assert executor.router.queued("m") + executor.router.running("m") <= 10
        bus.up.set()
        await stage.clock.advance(2000)
    assert len({result.request_id for result in stage.results()}) == 60


async def test_a_tombstone_removes_a_model() -> None:
    stage = Stage()
    async with stage.running() as executor:
        await stage.register()
        await stage.request(2)
        await stage.clock.advance(10)  # they wait for a replica when the model goes
        await stage.bus.publish([Outgoing(REGISTRY_MODELS.name, "m", None)])  # type: ignore[arg-type]
        await stage.clock.advance(10)
        assert not executor.router.knows("m")
        assert [result.status for result in stage.results()] == ["rejected", "rejected"]
        await stage.bus.publish(stage.bus_messages(REGISTRY_MODELS))  # the same again, at once
        await stage.clock.advance(10)
        assert not executor.router.knows("m")


# --- Commands -------------------------------------------------------------------------------------


async def test_a_load_is_accepted_at_once_and_done_when_the_replica_is_resident() -> None:
    stage = Stage()
    async with stage.running():
        await stage.register()
        await stage.place("1-0-0")
        await stage.clock.advance(10)
        assert stage.acks() == [("1-0-0", "accepted")]
        assert stage.last_state().replicas[0].state == "loading"
        await stage.clock.advance(1000)
        assert stage.acks() == [("1-0-0", "accepted"), ("1-0-0", "done")]
        assert stage.last_state().replicas[0].state == "resident"


async def test_a_drain_is_done_when_the_replica_is_gone() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.request(20)  # 11 ms each
        await stage.place("1-1-0", action="drain")
        await stage.clock.advance(10)
        assert stage.acks()[-1] == ("1-1-0", "accepted")
        assert stage.last_state().replicas[0].state == "draining"
        await stage.clock.advance(300)
        assert stage.acks()[-1] == ("1-1-0", "done")
        assert stage.last_state().replicas == ()
    assert len(stage.results()) == 20


async def test_a_replica_that_drains_is_not_loaded_again_until_it_is_gone() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.request(20)
        await stage.place("1-1-0", action="drain")
        await stage.place("1-2-0")
        await stage.clock.advance(10)
        assert stage.acks()[-1] == ("1-2-0", "failed")
        assert "is there already, draining" in stage.said(COMMANDS_ACKS, Ack)[-1].reason
        await stage.clock.advance(300)
        # The end of one is not taken for that of the next, ordered in the same tick.
        actions = [("1-3-0", "load"), ("1-4-0", "unload"), ("1-5-0", "load")]
        await stage.bus.publish([stage.placement(one, action=act) for one, act in actions])
        await stage.clock.advance(1100)
    assert [said for said in stage.acks() if said[0] > "1-2-0"] == [
        ("1-3-0", "accepted"),
        ("1-4-0", "accepted"),
        ("1-3-0", "failed"),
        ("1-4-0", "done"),
        ("1-5-0", "accepted"),
        ("1-5-0", "done"),
    ]


async def test_batch_and_scaling_are_done_at_once() -> None:
    stage = Stage()
    async with stage.running() as executor:
        await stage.serving()
        await stage.set_batch("1-1-0", size=7)
        await stage.say(COMMANDS_SCALING, "m", ScaleModel(id="1-1-1", model="m", replicas=2))
        await stage.clock.advance(10)
        said = [(one, status) for one in ("1-1-0", "1-1-1") for status in ("accepted", "done")]
        assert stage.acks()[2:] == said
        assert executor.fleet.replicas["m@n-0:0"].batch_size == 7


@pytest.mark.parametrize(
    ("replica", "said"),
    [
        ("stranger@n-0:0", "unknown model 'stranger'"),
        ("m@n-9:0", "unknown node 'n-9'"),
        ("m@n-0:7", "n-0 has no GPU 7"),
        ("m@n-0:0+1", "m takes 1 GPUs"),
        ("huge@n-0:0", "no memory on n-0/0"),
    ],
)
async def test_a_load_that_cannot_be_fails_with_its_reason(replica: str, said: str) -> None:
    stage = Stage()
    async with stage.running():
        await stage.register(model(), model("huge", weights_bytes=100 * GB))
        await stage.place("1-0-0", replica)
        await stage.clock.advance(10)
    ack = stage.said(COMMANDS_ACKS, Ack)[-1]
    assert ack.status == "failed"
    assert said in ack.reason


@pytest.mark.parametrize(
    ("replica", "size", "said"),
    [("m@n-0:1", 4, "unknown replica 'm@n-0:1'"), ("m@n-0:0", 65, "above batch_max 64")],
)
async def test_a_batch_size_that_cannot_be_fails_with_its_reason(
    replica: str, size: int, said: str
) -> None:
    stage = Stage()
    async with stage.running() as executor:
        await stage.serving()
        await stage.set_batch("1-1-0", replica, size)
        await stage.clock.advance(10)
        assert executor.fleet.replicas["m@n-0:0"].batch_size == 1
    ack = stage.said(COMMANDS_ACKS, Ack)[-1]
    assert ack.status == "failed"
    assert said in ack.reason


async def test_a_command_that_comes_twice_is_acted_on_once_and_answered_twice() -> None:
    stage = Stage()
    async with stage.running() as executor:
        await stage.serving()
        await stage.place("1-1-0", action="unload")
        await stage.clock.advance(10)
        await stage.place("1-2-0")
        await stage.clock.advance(1100)
        await stage.place("1-1-0", action="unload")  # an old one again: it must not unload anew
        await stage.clock.advance(10)
        assert executor.fleet.replicas["m@n-0:0"].state == "resident"
    assert stage.acks()[-1] == ("1-1-0", "done")


@pytest.mark.parametrize("seen_by", ["leader", "tick", "command"])
async def test_nothing_of_a_deposed_leader_is_acted_on(seen_by: str) -> None:
    stage = Stage()
    async with stage.running() as executor:
        await stage.serving()
        if seen_by == "leader":  # a claim's offset is its epoch
            for _ in range(4):
                await stage.bus.publish([Outgoing(SCHEDULER_LEADER.name, "leader", b"{}")])
        elif seen_by == "tick":
            await stage.tick(0, epoch=3)
        else:
            await stage.say(COMMANDS_SCALING, "m", ScaleModel(id="3-0-0", model="m", replicas=1))
        await stage.clock.advance(10)
        refused = value("plimsoll_commands_stale_total", topic=COMMANDS_PLACEMENT.name)
        await stage.place("1-9-0", action="unload")
        await stage.clock.advance(100)
        assert executor.fleet.replicas["m@n-0:0"].state == "resident"
        assert value("plimsoll_commands_stale_total", topic=COMMANDS_PLACEMENT.name) == refused + 1
        assert stage.acks()[-1] == ("1-9-0", "failed")
        # The new leader's are.
        await stage.place("3-1-0", action="unload")
        await stage.clock.advance(10)
        assert executor.fleet.replicas == {}


async def test_tables_that_stood_before_the_start_hold_whoever_wrote_them() -> None:
    stage = Stage()
    await stage.route(("m@n-0:0", 5), epoch=1)
    bus = FaultyBus(stage.bus)
    bus.registry_up.clear()
    async with stage.running(bus) as executor:
        await stage.tick(0, epoch=3)  # known before the table has been read
        bus.registry_up.set()
        await stage.register()
        await stage.place("3-0-0")
        await stage.clock.advance(1100)
        assert executor.fleet.replicas["m@n-0:0"].concurrency == 5


async def test_a_command_without_a_proper_id_is_buried() -> None:
    stage = Stage()
    async with stage.running():
        await stage.register()
        await stage.place("first")
        await stage.clock.advance(10)
        (dead,) = stage.bus.records(DEAD_LETTERS)
        assert dead.headers["dead-reason"] == b"id: 'first' is not epoch-tick-position"
        await stage.place("1-0-0")
        await stage.clock.advance(10)
        assert stage.acks() == [("1-0-0", "accepted")]


async def test_a_replica_out_of_memory_is_counted_and_its_requests_go_elsewhere() -> None:
    stage = Stage()
    async with stage.running():
        await stage.register(model(request_bytes=30 * GB))
        await stage.place("1-0-0", "m@n-0:0")
        await stage.place("1-0-1", "m@n-0:1")
        await stage.clock.advance(2200)
        await stage.set_batch("1-1-0", "m@n-0:0", size=3)  # 10 + 3 x 30 GB of 80
        await stage.route(("m@n-0:0", 9), ("m@n-0:1", 9))
        before = value("plimsoll_oom_total")
        await stage.request(3)
        await stage.clock.advance(100)
    assert value("plimsoll_oom_total") == before + 1
    assert {(r.status, r.replica) for r in stage.results()} == {("ok", "m@n-0:1")}
    assert [replica.replica for replica in stage.last_state().replicas] == ["m@n-0:1"]


# --- What it tells --------------------------------------------------------------------------------


async def test_devices_and_states_are_told_at_the_start_and_each_second() -> None:
    stage = Stage(fleet=spec(gpus=2, nodes=2))
    async with stage.running():
        devices = stage.said(REGISTRY_DEVICES, DeviceSpec)
        assert [device.device for device in devices] == ["n-0/0", "n-0/1", "n-1/0", "n-1/1"]
        assert len(stage.said(FLEET_STATE, FleetState)) == 2
        await stage.clock.advance(3000)
        assert len(stage.said(FLEET_STATE, FleetState)) == 2 + 3 * 2


async def test_samples_come_on_a_grid_after_their_layout_and_only_with_models() -> None:
    stage = Stage()
    async with stage.running():
        await stage.clock.advance(400)
        assert stage.bus.records(METRICS_LAYOUTS) == []
        await stage.serving()
        await stage.request(4)
        await stage.clock.advance(1000)
    ticks = [decode_protobuf(r, pb.Tick) for r in stage.bus.records(METRICS_SAMPLES)]
    layouts = [decode_protobuf(r, pb.Layout) for r in stage.bus.records(METRICS_LAYOUTS)]
    source = {layout.layout_id: layout.source for layout in layouts}
    assert {layout_id(tick) for tick in ticks} == set(source)
    told_ms = min(record.timestamp_ms for record in stage.bus.records(METRICS_LAYOUTS))
    assert all(tick.at_ms > told_ms for tick in ticks)
    of_router = [tick for tick in ticks if source[layout_id(tick)].startswith("router/")]
    at = [tick.at_ms for tick in of_router]
    assert at == list(range(at[0], at[0] + 100 * len(at), 100))
    assert all(tick.at_ms % 100 == 0 and tick.holds_ms == 300 for tick in of_router)
    assert [tick.sequence for tick in of_router] == list(range(1, len(at) + 1))
    of_devices = [tick.at_ms for tick in ticks if source[layout_id(tick)] == "executor/n-0"]
    assert of_devices == [START_MS + 2000]  # the first one's turn announced the layout


async def test_the_values_of_several_models_stand_under_their_own_series() -> None:
    fleet = FleetModel(spec(), [model(name) for name in ("a", "b", "c")])
    bus = MemoryBus(ManualClock(START_MS))
    sampler = Sampler(fleet, Router(fleet), bus, TEST)
    for name, count in (("a", 1), ("b", 2), ("c", 3)):
        row = fleet.models[fleet.model_index[name]]
        row["arrivals"], row["queue"] = count, 10 * count
    sampler.of_models(START_MS, 100)
    layouts = sampler.new_layouts()
    sampler.announced(layouts)
    seen = {}
    for sent, layout in zip(sampler.of_models(START_MS + 100, 100), layouts, strict=True):
        values = Chains().read(pb.Tick.FromString(sent.value), layout)
        assert not isinstance(values, Wait)
        for one, value in zip(layout.series, values, strict=True):
            seen[(one.metric, one.model, one.bucket)] = value
    for name, count in (("a", 1), ("b", 2), ("c", 3)):
        assert seen[(series.ARRIVALS, name, 0)] == count
        assert seen[(series.QUEUE, name, 0)] == 10 * count
        assert seen[(series.ENDS_OK, name, 0)] == 0


async def test_a_sample_says_what_has_happened() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.set_batch("1-1-0", size=4)
        await stage.request(6)
        await stage.clock.advance(600)
    partition = stage.bus.partition_of(METRICS_SAMPLES, "m")
    records = [r for r in stage.bus.records(METRICS_SAMPLES) if r.key == b"router/%d" % partition]
    assert {record.partition for record in records} == {partition}
    ticks = [decode_protobuf(record, pb.Tick) for record in records]
    (layout,) = [
        one
        for record in stage.bus.records(METRICS_LAYOUTS)
        if (one := decode_protobuf(record, pb.Layout)).layout_id == layout_id(ticks[-1])
    ]
    chains = Chains()
    values = [chains.read(tick, layout) for tick in ticks][-1]
    assert not isinstance(values, Wait)
    by_name = dict(zip([(s.metric, s.bucket) for s in layout.series], values, strict=True))
    expected = {
        series.ARRIVALS: 6, series.ENDS_OK: 6, series.ENDS_LATE: 0, series.QUEUE: 0,
        # Batches of 4 and 2: 14 and 12 ms.
        series.BATCHES: 2, series.BATCH_REQUESTS: 6, series.BATCH_SERVICE_MS: 26,
        series.BATCH_REQUESTS_SQUARED: 20, series.BATCH_CROSS: 4 * 14 + 2 * 12,
        series.LOADS: 1, series.LOAD_MS: pytest.approx(1000, abs=1),
    }  # fmt: skip
    assert {name: by_name[(name, 0)] for name in expected} == expected
    ratios = [by_name[(series.LATENCY_RATIO, b)] for b in range(series.LATENCY_BUCKETS)]
    assert sum(ratios) == 6
    assert ratios[series.latency_bucket(14 / 1000)] == 6  # all are below 1/32


async def test_the_loop_latency_runs_from_a_sample_to_the_first_tick_that_covers_it() -> None:
    stage = Stage()
    async with stage.running():
        await stage.register()
        await stage.clock.advance(1000)
        count = value("plimsoll_loop_latency_seconds_count")
        total = value("plimsoll_loop_latency_seconds_sum")
        now_ms = stage.clock.now_ms()
        newest_ms = now_ms - now_ms % 100
        await stage.tick(newest_ms - 100)
        covered = value("plimsoll_loop_latency_seconds_count") - count
        assert covered >= 5
        await stage.tick(newest_ms - 100)  # covers nothing more
        assert value("plimsoll_loop_latency_seconds_count") == count + covered
        await stage.tick(newest_ms)
        assert value("plimsoll_loop_latency_seconds_count") == count + covered + 1
        assert value("plimsoll_loop_latency_seconds_sum") > total


async def test_gpu_time_is_charged_as_the_fleet_says() -> None:
    stage = Stage(fleet=spec(gpus=2, training=(job(),)))
    kinds = ("serving", "training", "free")

    def charged(kind: str) -> float:
        places = [
            {"node": gpu.node, "gpu": str(gpu.gpu)} for gpu in stage.executor.fleet.gpus.values()
        ]
        return sum(value("plimsoll_gpu_seconds_total", kind=kind, **place) for place in places)

    async with stage.running():
        await stage.clock.advance(2000)
        before = {kind: charged(kind) for kind in kinds}
        await stage.clock.advance(10_000)
        seconds = {kind: charged(kind) - before[kind] for kind in kinds}
    assert seconds["training"] == pytest.approx(2 * 10, rel=0.01)
    assert seconds["serving"] == seconds["free"] == 0


async def test_every_replica_is_shown_in_one_state() -> None:
    stage = Stage()

    def shown() -> dict[str, float]:
        states = ("loading", "standby", "awake", "draining")
        return {s: value("plimsoll_replicas", model="m", state=s) for s in states}

    async with stage.running():
        await stage.serving()
        await stage.clock.advance(2000)
        assert shown() == {"loading": 0, "standby": 0, "awake": 1, "draining": 0}
        assert value("plimsoll_queue_requests", model="m") == 0
        arrivals = value("plimsoll_arrivals_total", model="m")
        await stage.request(3)
        await stage.clock.advance(2000)
        assert value("plimsoll_arrivals_total", model="m") == arrivals + 3


def test_the_buckets_of_the_loop_latency_are_fine_up_to_the_objective() -> None:
    edges = telemetry.LOOP_BUCKETS_S
    assert edges[:40] == tuple(i / 100 for i in range(1, 41))
    assert edges[-1] == 10


async def test_a_request_without_a_due_time_is_due_when_it_is_seen() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        plain = InferenceRequest(request_id="a", model="m").model_dump_json().encode()
        await stage.bus.publish([Outgoing(INFERENCE_REQUESTS.name, "a", plain)])
        await stage.clock.advance(50)
    (result,) = stage.results()
    assert result.latency_ms == 11


async def test_a_request_that_is_sent_twice_has_one_end() -> None:
    stage = Stage()
    async with stage.running():
        await stage.serving()
        await stage.request(3)
        stage.sent -= 3  # a sender that saw no acknowledgement sends the same again
        await stage.request(3)
        await stage.clock.advance(3000)
        ends = [record.key for record in stage.bus.records(INFERENCE_RESULTS)]
    assert sorted(ends) == [b"r0", b"r1", b"r2"]
    assert stage.bus._committed[("executor", INFERENCE_REQUESTS.name, 0)] == 6
