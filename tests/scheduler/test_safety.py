"""What holds in any world: bounded orders, memory that there is, and no data means no change."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import PlaceReplica, ScaleModel, SetBatch
from services.scheduler.core.policy import Policy
from tests.scheduler.fleets import GB, Fleet, a_model, moves_of

rates = st.floats(0, 3000)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.lists(rates, min_size=2, max_size=4))
def test_no_tick_orders_more_than_the_policy_allows(commands, moves, loads):
    names = [f"m-{n}" for n in range(6)]
    models = [a_model(name, weights_bytes=4 * GB) for name in names]
    policy = Policy(commands_max=commands, moves_max=moves)
    fleet = Fleet(*models, nodes=2, gpus=4, policy=policy)
    for load in loads:
        for decision in fleet.run(4, dict.fromkeys(names, load)):
            ordered = Counter(type(command) for command in decision.commands)
            assert ordered[PlaceReplica] <= moves
            assert ordered[ScaleModel] <= commands
            assert ordered[SetBatch] <= commands


def test_what_had_to_wait_for_its_turn_is_told_in_the_ticks_after():
    names = [f"m-{n}" for n in range(6)]
    models = [a_model(name, weights_bytes=4 * GB) for name in names]
    fleet = Fleet(*models, nodes=2, gpus=4, policy=Policy(commands_max=1))
    fleet.run(60, dict.fromkeys(names, 80))
    # Without the bound there would be nothing left to say.
    fleet.policy = Policy()
    decisions = fleet.run(2.2, dict.fromkeys(names, 80))
    assert not [decision.commands for decision in decisions if decision.commands]


policies = st.fixed_dictionaries(
    {
        "util_target": st.floats(0.1, 0.95),
        "batch_memory_share": st.floats(0.05, 1),
        "batch_headroom": st.floats(1, 10),
        "standby_memory_share": st.floats(0, 1),
        "standby_grant": st.integers(0, 20),
        "moves_max": st.integers(1, 50),
        "commands_max": st.integers(1, 50),
    }
).map(lambda fields: Policy(**fields))


@settings(max_examples=25, deadline=None)
@given(policies, st.lists(st.tuples(rates, rates, rates), min_size=1, max_size=3), st.data())
def test_no_policy_asks_for_more_memory_than_there_is(policy, loads, data):
    size = st.integers(1, 90)
    models = [
        a_model(
            name,
            weights_bytes=data.draw(size) * GB,
            request_bytes=data.draw(size) * GB // 2,
            gpus=data.draw(st.sampled_from([1, 2])),
        )
        for name in ("a", "b", "c")
    ]
    fleet = Fleet(*models, nodes=2, gpus=2, load_ticks=3, policy=policy)
    for load in loads:
        for _ in range(12):
            fleet.run(0.2, dict(zip("abc", load, strict=True)))
            assert max(fleet.reserved_bytes().values()) <= 80 * GB


@pytest.mark.parametrize("silent", ["forecast", "samples", "fleet", "nothing"])
def test_without_one_of_its_signals_nothing_shrinks_and_with_all_it_does(silent):
    policy = Policy(shrink_hold_ms=1000, standby_memory_share=0.0)
    fleet = Fleet(a_model(), nodes=1, gpus=8, policy=policy)
    fleet.run(6, {"chat": 500})
    before, reported = fleet.replicas_of("chat"), dict(fleet.view.fleet)
    fleet.now_ms += policy.fleet_stale_ms + 1
    for _ in range(100):
        if silent == "fleet":  # who reports no more stays in the view as it was last seen
            fleet._report = lambda: fleet.view.fleet.update(reported)
        if silent != "forecast":
            fleet.offer("chat", 1)
        if silent == "samples":  # the predictor goes on, but knows of no arrivals
            fleet.view.forecasts["chat"].ClearField("arrival_rate_rps")
        fleet.step()
    assert (fleet.replicas_of("chat") == before) == (silent != "nothing")


def test_an_order_that_nobody_answers_is_not_given_again_before_its_time():
    fleet = Fleet(a_model(), nodes=1, gpus=8)
    fleet.run(4, {"chat": 50})
    fleet.deaf = True
    orders = moves_of(fleet.run(Policy().move_timeout_ms / 1000, {"chat": 500}))
    assert len(orders) == len(set(orders)) == 4


@settings(max_examples=30, deadline=None)
@given(rates, rates)
def test_a_forecast_only_ever_raises_a_target(rate, peak):
    found = []
    for foreseen in (0.0, peak):
        fleet = Fleet(a_model(), nodes=2, gpus=8)
        fleet.run(2.2, {"chat": rate}, peak_rps=foreseen)
        found.append(fleet.state.target[0])
    assert found[0] <= found[1]


def foreign_of(decisions):
    return [why for decision in decisions for why in decision.why if why.action == "foreign"]


def test_what_the_scheduler_ordered_itself_is_never_taken_for_the_work_of_another():
    fleet = Fleet(a_model("chat"), a_model("vision"), nodes=2, gpus=4, load_ticks=3)
    decisions = []
    for rate in (10, 700, 0, 300, 50):
        decisions += fleet.run(70, {"chat": rate, "vision": 400 - rate / 2})
    assert {action for action, _ in moves_of(decisions)} == {"load", "drain"}
    assert not foreign_of(decisions)


def test_a_replica_that_another_loads_and_one_that_goes_are_said_once():
    fleet = Fleet(a_model(), nodes=1, gpus=4)
    fleet.run(4, {"chat": 50})
    (ours,) = fleet.replicas_of("chat")
    gpu = next(g for g in range(4) if f"chat@n-0:{g}" != ours)
    theirs = PlaceReplica(
        id="x", replica=f"chat@n-0:{gpu}", model="chat", node="n-0", gpus=(gpu,), action="load"
    )
    fleet._carry_out(theirs)
    (why,) = foreign_of(fleet.run(1, {"chat": 50}))
    assert why.text == (
        f"chat: chat@n-0:{gpu} came without an order: does something else scale this model?"
    )
    fleet.lose(ours)
    (why,) = foreign_of(fleet.run(1, {"chat": 50}))
    assert (why.numbers["appeared"], why.numbers["vanished"]) == (0, 1)
    assert ours in why.text
