"""In shadow everything is decided and explained, nothing is commanded, and the account is right."""

import numpy as np
import pytest

from cli.shadow import in_words, saved
from libs.common import wire
from libs.common.messages import Explanation
from libs.common.topics import DECISIONS_EXPLAINED, REGISTRY_DEVICES, ROUTING_TABLE, SCHEDULER_TICKS
from services.scheduler import shadow
from tests.scheduler.fleets import Fleet, a_model, some_devices
from tests.scheduler.test_scheduler_app import COMMANDS, World, batches


async def in_shadow(world: World) -> None:
    await world.begin()
    for device in some_devices(1, 1):
        priced = device.model_copy(update={"price_usd_per_hour": 3.0})
        await world.say(REGISTRY_DEVICES, device.device, priced)
    await world.start("a", mode="shadow")


async def test_no_command_topic_is_written_and_why_is_said_all_the_same() -> None:
    world = World()
    await in_shadow(world)
    await world.pass_time(5000, 900)
    await world.pass_time(5000, 10)
    await world.kill("a")
    assert not [record for topic in (*COMMANDS, ROUTING_TABLE) for record in world.of(topic)]
    said = [wire.decode_json(r, Explanation).action for r in world.of(DECISIONS_EXPLAINED)]
    assert {"scale", "batch"} <= set(said)
    assert len(world.of(SCHEDULER_TICKS)) >= 45


async def test_a_live_leader_after_one_in_shadow_tells_everybody_everything() -> None:
    world = World()
    await in_shadow(world)
    await world.pass_time(2000, 10)
    await world.kill("a")
    await world.start("b")
    await world.report()
    await world.pass_time(2400, 10)
    await world.kill("b")
    assert batches(world)
    assert world.of(ROUTING_TABLE)
    ticks = [tick.tick for tick in world.ticks()]
    assert ticks == list(range(len(ticks)))


async def test_the_account_of_a_minute_is_what_ran_and_what_the_target_was() -> None:
    world = World()
    await in_shadow(world)
    for _ in range(64):
        await world.report()
        await world.pass_time(1000, 10)
    await world.kill("a")
    found = await saved(world.bus, 0)
    # One replica of one GPU at $3 an hour ran, and one was the target.
    assert found.ran_gpu_h == pytest.approx(found.accounted_s / 3600)
    assert found.wanted_gpu_h == pytest.approx(found.accounted_s / 3600)
    assert found.ran_usd == pytest.approx(3 * found.ran_gpu_h)
    assert found.accounted_s == pytest.approx(60, rel=0.02)
    assert found.demand_requests == pytest.approx(600, rel=0.05)
    assert "100.00% of the demand" in in_words(found)


def test_replicas_that_the_load_does_not_need_would_have_been_saved() -> None:
    fleet = Fleet(a_model(), nodes=1, gpus=8)
    fleet.run(10, {"chat": 550})
    assert len(fleet.replicas_of("chat")) == 6
    fleet.deaf = True
    fleet.run(65, {"chat": 150})
    fleet.offer("chat", 150)
    seen = fleet.observe()
    now = shadow.side_of(seen, fleet.step(), np.full(8, 2.0))
    assert now[:4] == (6.0, 2.0, 12.0, 4.0)
    assert now.carried_rps == now.demand_rps == pytest.approx(150)


def test_time_in_which_no_tick_was_made_is_not_accounted() -> None:
    fleet = Fleet(a_model())
    account, now = shadow.Account(), shadow.Side(8, 4, 16, 8, 100, 90)
    for gap_ms in (0, 200, 200, 60_000, 200):
        fleet.now_ms += gap_ms
        account = shadow.step(account, fleet.observe(), now)
    assert account.accounted_ms == 600
    assert (account.ran, account.wanted) == (4800, 2400)
