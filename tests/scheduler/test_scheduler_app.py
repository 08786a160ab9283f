"""The shipped loop on a bus and a clock in memory: bursts, takeovers, bad input, late ticks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.messages import (
    FleetState,
    GpuState,
    Override,
    ReplicaState,
    RoutingTable,
    SetBatch,
)
from libs.common.ports import Outgoing, Record
from libs.common.topics import (
    COMMANDS_ACKS,
    COMMANDS_BATCH,
    COMMANDS_PLACEMENT,
    COMMANDS_SCALING,
    DEAD_LETTERS,
    FLEET_STATE,
    LOAD_FORECASTS,
    NODE_SCORES,
    OPERATOR_OVERRIDES,
    REGISTRY_DEVICES,
    REGISTRY_MODELS,
    ROUTING_TABLE,
    SCHEDULER_LEADER,
    SCHEDULER_TICKS,
    Topic,
)
from libs.common.wire import Origin
from services.scheduler.app import Scheduler
from services.scheduler.core.policy import Policy
from services.scheduler.observation import observe
from services.scheduler.settings import SchedulerSection
from services.scheduler.tick_record import replay, state_in
from tests.scheduler.fleets import GB, START_MS, a_forecast, a_model, some_devices

TEST = Origin("test", "test")
COMMANDS = (COMMANDS_SCALING, COMMANDS_BATCH, COMMANDS_PLACEMENT)
TICK_MS = 200


class World:
    """A bus with one resident replica of `chat` on one GPU, and the schedulers started on it."""

    def __init__(self) -> None:
        self.clock = ManualClock(START_MS)
        self.bus = MemoryBus(self.clock)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.schedulers: dict[str, Scheduler] = {}

    async def say(self, topic: Topic, key: str, message: object) -> None:
        now_ms = self.clock.now_ms()
        await self.bus.publish([wire.encode(topic, key, message, TEST, "test", now_ms)])
        await self.clock.advance(0)  # lets those who wait for it run

    async def begin(self) -> None:
        await self.say(REGISTRY_MODELS, "chat", a_model())
        for device in some_devices(1, 1):
            await self.say(REGISTRY_DEVICES, device.device, device)
        await self.report()

    async def report(self) -> None:
        chat = ReplicaState(
            replica="chat@n-0:0",
            model="chat",
            gpus=(0,),
            state="resident",
            memory_bytes=18 * GB,
        )
        gpu = GpuState(gpu=0, memory_bytes_total=80 * GB, memory_bytes_free=62 * GB)
        now_ms = self.clock.now_ms()
        fleet = FleetState(node="n-0", at_ms=now_ms, gpus=(gpu,), replicas=(chat,))
        await self.say(FLEET_STATE, "n-0", fleet)

    async def start(self, name: str, **chosen: object) -> None:
        origin, section = Origin("scheduler", name), SchedulerSection.model_validate(chosen)
        scheduler = Scheduler(self.bus, self.clock, origin, section)
        self.schedulers[name] = scheduler
        self.tasks[name] = asyncio.create_task(scheduler.serve())
        await self.clock.advance(0)

    async def kill(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.wait([self.tasks[name]])
        await self.clock.advance(0)

    async def pass_time(self, ms: int, rate_rps: float, *, after_ms: int = 30) -> None:
        """Go on; a forecast of each sample on the 100 ms grid comes `after_ms` later."""
        for _ in range(ms // 100):
            taken_ms = self.clock.now_ms()
            await self.clock.advance(after_ms)
            forecast = a_forecast("chat", taken_ms, rate_rps)
            batch = pb.LoadForecasts(partition=0, at_ms=taken_ms, forecasts=[forecast])
            await self.say(LOAD_FORECASTS, "0", batch)
            await self.clock.advance(100 - after_ms)

    def ticks(self) -> list[pb.TickRecord]:
        records = self.bus.records(SCHEDULER_TICKS)
        return [wire.decode_protobuf(record, pb.TickRecord) for record in records]

    def of(self, topic: Topic) -> list[Record]:
        return self.bus.records(topic)


@asynccontextmanager
async def a_world(*names: str) -> AsyncIterator[World]:
    world = World()
    await world.begin()
    for name in names:
        await world.start(name)
    try:
        yield world
    finally:
        for name in names:
            await world.kill(name)


def batches(world: World) -> list[SetBatch]:
    return [wire.decode_json(record, SetBatch) for record in world.of(COMMANDS_BATCH)]


async def test_a_tick_follows_the_forecast_of_the_sample_taken_on_it() -> None:
    async with a_world("a") as world:
        await world.pass_time(1000, 10)
        made = world.of(SCHEDULER_TICKS)
        assert [r.timestamp_ms - START_MS for r in made[1:]] == [430, 630, 830]
        seen_until = [int(r.headers["seen-until-ms"]) - START_MS for r in made[1:]]
        assert seen_until == [400, 600, 800]
        assert [r.headers["tick"] for r in made] == [b"0", b"1", b"2", b"3"]
        assert {r.headers["epoch"] for r in made} == {b"0"}


async def test_a_tick_waits_only_so_long_for_a_forecast_that_is_late() -> None:
    async with a_world("a") as world:
        await world.pass_time(1000, 10, after_ms=90)
        made = world.of(SCHEDULER_TICKS)
        assert [r.timestamp_ms - START_MS for r in made[1:]] == [480, 680, 880]
        seen_until = [int(r.headers["seen-until-ms"]) - START_MS for r in made[1:]]
        assert seen_until == [300, 500, 700]


async def test_a_tenfold_burst_changes_the_batch_commands_within_two_ticks() -> None:
    async with a_world("a") as world:
        await world.pass_time(2000, 10)
        before = batches(world)[-1]
        burst_ms = world.clock.now_ms()
        await world.pass_time(400, 100)
        after = batches(world)[-1]
        assert (before.batch_size, after.batch_size) == (2, 10)
        first = next(r for r in world.of(COMMANDS_BATCH) if r.timestamp_ms > burst_ms)
        seen = [r for r in world.of(SCHEDULER_TICKS) if r.timestamp_ms > burst_ms]
        assert first.timestamp_ms <= seen[1].timestamp_ms


async def test_a_new_leader_goes_on_from_the_state_and_tick_that_the_old_one_left() -> None:
    async with a_world("a", "b") as world:
        await world.pass_time(3000, 60)
        await world.report()
        left = world.ticks()[-1]
        commands = sum(len(world.of(topic)) for topic in COMMANDS)
        tables = len(world.of(ROUTING_TABLE))
        await world.kill("a")
        await world.pass_time(400, 60)
        taken = next(tick for tick in world.ticks() if tick.epoch != left.epoch)
        assert taken.epoch > left.epoch
        assert taken.tick == left.tick + 1
        # Only from the very state that was left do the same bytes follow.
        again = replay(state_in(left), taken, Policy())
        assert wire.pack_columns(again.state) == taken.state
        # Nothing had changed, so nothing is said again.
        assert sum(len(world.of(topic)) for topic in COMMANDS) == commands
        assert len(world.of(ROUTING_TABLE)) == tables


async def test_a_successors_state_and_view_are_the_old_leaders_to_the_byte() -> None:
    async with a_world("a", "b") as world:
        for device in some_devices(2, 1):
            await world.say(REGISTRY_DEVICES, device.device, device)
        gpu = GpuState(gpu=0, memory_bytes_total=80 * GB, memory_bytes_free=80 * GB)
        idle = FleetState(node="n-1", at_ms=world.clock.now_ms(), gpus=(gpu,), replicas=())
        await world.say(FLEET_STATE, "n-1", idle)
        said = Override(target="chat", kind="pin", replicas=2, by="ada", until_ms=START_MS + 60_000)
        await world.say(OPERATOR_OVERRIDES, "chat", said)
        await world.pass_time(2600, 900)
        left = world.ticks()[-1]
        old, new = world.schedulers["a"]._view, world.schedulers["b"]._view
        state, tick = await world.schedulers["b"]._restore()
        assert wire.pack_columns(state) == left.state
        assert tick == left.tick + 1
        # It has something in each of its parts that this could lose.
        assert state.overrides
        assert state.moves
        assert (state.demand_ms > 0).all()
        assert (state.batch_size > 0).any()
        now_ms = world.clock.now_ms()
        seen = [wire.pack_columns(observe(v, state, 1, tick, now_ms)) for v in (old, new)]
        assert seen[0] == seen[1]
        await world.kill("a")
        await world.pass_time(400, 900)
        taken = next(tick for tick in world.ticks() if tick.epoch != left.epoch)
        assert wire.pack_columns(replay(state_in(left), taken, Policy()).state) == taken.state


async def test_a_pause_on_the_bus_stops_the_commands_and_its_end_lets_them_go_on() -> None:
    async with a_world("a") as world:
        await world.pass_time(2000, 10)
        said = Override(target="all", kind="pause", by="ada")
        await world.say(OPERATOR_OVERRIDES, "all", said)
        await world.pass_time(400, 10)
        count = sum(len(world.of(topic)) for topic in COMMANDS)
        await world.pass_time(3000, 100)
        assert sum(len(world.of(topic)) for topic in COMMANDS) == count
        await world.bus.publish([Outgoing(OPERATOR_OVERRIDES.name, "all", None)])
        await world.pass_time(400, 100)
        assert batches(world)[-1].batch_size == 10


async def test_a_deposed_leader_publishes_nothing_more_and_stands_again() -> None:
    async with a_world("a", "b") as world:
        await world.pass_time(1000, 60)
        world.bus.depose(SCHEDULER_LEADER)
        await world.pass_time(1000, 600)
        epochs = [tick.epoch for tick in world.ticks()]
        assert epochs == sorted(epochs)
        assert len(set(epochs)) == 2
        ticks = [tick.tick for tick in world.ticks()]
        assert ticks == list(range(len(ticks)))
        assert not world.tasks["a"].done()
        assert world.schedulers["a"].tick_fault() is None
        world.bus.depose(SCHEDULER_LEADER)
        await world.pass_time(1000, 60)
        assert len({tick.epoch for tick in world.ticks()}) == 3


async def test_ticks_that_were_missed_are_not_made_up_for() -> None:
    async with a_world("a") as world:
        await world.pass_time(1000, 10)
        before = len(world.ticks())
        world.clock._now_ms += 5000  # the machine slept; nobody was woken
        await world.pass_time(400, 10)
        assert len(world.ticks()) - before <= 3


async def test_a_leader_that_makes_no_tick_says_so() -> None:
    async with a_world("a") as world:
        await world.pass_time(1000, 10)
        scheduler = world.schedulers["a"]
        assert scheduler.tick_fault() is None
        world.clock._now_ms += 5000
        assert "no tick for 5" in (scheduler.tick_fault() or "")


async def test_what_cannot_be_read_goes_to_dead_letters_and_the_loop_goes_on() -> None:
    async with a_world("a") as world:
        await world.pass_time(400, 10)
        ours = (FLEET_STATE, OPERATOR_OVERRIDES, LOAD_FORECASTS, NODE_SCORES, COMMANDS_ACKS)
        # All services read the registry; the executor alone writes its dead letters.
        for topic in (REGISTRY_MODELS, *ours):
            await world.bus.publish([Outgoing(topic.name, "x", b"\xff{broken")])
        await world.pass_time(600, 10)
        assert [letter.key for letter in world.bus.records(DEAD_LETTERS)] == [
            topic.name.encode() for topic in ours
        ]
        assert len(world.ticks()) >= 4


async def test_a_state_of_another_version_is_left_behind_but_ticks_count_on() -> None:
    world = World()
    await world.begin()
    old = pb.TickRecord(epoch=0, tick=41, state=pb.Columns())
    await world.say(SCHEDULER_TICKS, "", old)
    await world.start("a")
    await world.pass_time(600, 10)
    assert world.ticks()[1].tick == 42
    await world.kill("a")


async def test_a_model_that_leaves_the_registry_leaves_the_view() -> None:
    async with a_world("a") as world:
        await world.pass_time(400, 10)
        await world.bus.publish([Outgoing(REGISTRY_MODELS.name, "chat", None)])
        await world.pass_time(2400, 10)
        (order,) = world.of(COMMANDS_PLACEMENT)
        assert b'"drain"' in (order.value or b"")


async def test_the_table_names_its_tick() -> None:
    async with a_world("a") as world:
        await world.pass_time(600, 10)
        table = wire.decode_json(world.of(ROUTING_TABLE)[0], RoutingTable)
        assert (table.epoch, table.tick, table.theta) == (0, 0, 0.7)
        assert [route.replica for route in table.replicas] == ["chat@n-0:0"]
