"""The properties of a whole tick, on a fleet that carries its orders out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import Objective, PlaceReplica, ScaleModel, SetBatch
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy
from services.scheduler.tick_record import record_of, replay, state_in
from tests.scheduler.fleets import GB, NO_STANDBYS, Fleet, a_model, moves_of, of_kind

POLICY = NO_STANDBYS
rates = st.floats(0, 900)


def targets(fleet):
    return dict(zip(fleet.state.models, fleet.state.target.tolist(), strict=True))


def test_an_empty_fleet_loads_the_minimum_of_every_model_before_any_forecast_has_come():
    fleet = Fleet(a_model("chat", replicas_min=2), a_model("vision", weights_bytes=GB))
    decision = fleet.step()
    assert sorted(c.model for c in of_kind([decision], PlaceReplica)) == ["chat", "chat", "vision"]
    assert targets(fleet) == {"chat": 2, "vision": 1}
    for _ in range(15):
        assert not moves_of([fleet.step()])  # what is on its way is not ordered again


def test_replicas_without_a_forecast_may_be_used_with_their_largest_batch():
    fleet = Fleet(a_model())
    fleet.step()
    decision = fleet.step()
    (batch,) = of_kind([decision], SetBatch)
    assert (batch.batch_size, batch.serving_share) == (10, 0.0)
    assert [route.concurrency for route in decision.tables[0].replicas] == [20]


@settings(max_examples=40, deadline=None)
@given(rates, st.floats(1, 5), st.floats(0, 200))
def test_more_load_never_asks_for_fewer_replicas(rate, times, queue):
    fleet = Fleet(a_model("chat"), a_model("vision", weights_bytes=4 * GB))
    fleet.run(2.2, {"chat": 100, "vision": 50})
    wanted = []
    for offered in (rate, rate * times):
        fleet.offer("chat", offered, queue_requests=queue)
        seen = fleet.observe()._replace(tick=20)
        after = decide(fleet.state, seen, POLICY).state
        wanted.append(after.target[0])
    assert wanted[0] <= wanted[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(rates, rates, rates), min_size=1, max_size=5),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_no_gpu_is_ever_promised_more_memory_than_it_has(loads, request_gb, small_gb):
    models = (
        a_model("chat", request_bytes=request_gb * GB),
        a_model("embed", weights_bytes=small_gb * GB, request_bytes=GB // 2),
        a_model("wide", weights_bytes=60 * GB, gpus=2),
    )
    fleet = Fleet(*models, nodes=1, gpus=4, load_ticks=3)
    for chat, embed, wide in loads:
        for _ in range(12):
            fleet.run(0.2, {"chat": chat, "embed": embed, "wide": wide})
            assert max(fleet.reserved_bytes().values()) <= 80 * GB


@settings(max_examples=30, deadline=None)
@given(rates, rates, st.integers(0, 3), st.integers(3, 5))
def test_targets_keep_their_bounds_and_never_fall_below_the_demand_of_now(rate, peak, least, most):
    fleet = Fleet(a_model(replicas_min=least, replicas_max=most), nodes=1, gpus=8)
    fleet.run(2.2, {"chat": rate}, peak_rps=peak)
    needed = int(np.ceil((rate - 1e-5) / 100))  # one replica carries 100 requests/s
    assert max(least, min(most, needed)) <= targets(fleet)["chat"] <= most
    assert len(fleet.replicas_of("chat")) <= most


@settings(max_examples=40, deadline=None)
@given(rates, rates, st.floats(0, 300), st.integers(0, 60))
def test_what_is_seen_again_is_not_commanded_again(chat, vision, queue, tick):
    fleet = Fleet(a_model("chat"), a_model("vision", weights_bytes=4 * GB))
    fleet.run(4.2, {"chat": 60, "vision": 150})
    fleet.offer("chat", chat, queue_requests=queue)
    fleet.offer("vision", vision)
    seen = fleet.observe()._replace(tick=tick)
    decisions = [decide(fleet.state, seen, POLICY)]
    # On crowded GPUs a target may be corrected once the loads on their way are counted in.
    for _ in range(3):
        decisions.append(decide(decisions[-1].state, seen, POLICY))
    assert not of_kind(decisions[1:], SetBatch)
    assert len(set(moves_of(decisions))) == len(moves_of(decisions))
    assert decisions[-1].commands == decisions[-1].tables == decisions[-1].why == ()


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 300), st.floats(0, 300), st.integers(0, 60))
def test_on_a_fleet_with_room_once_is_enough(chat, vision, tick):
    fleet = Fleet(a_model("chat"), a_model("vision", weights_bytes=4 * GB))
    fleet.run(4.2, {"chat": 60, "vision": 150})
    fleet.offer("chat", chat)
    fleet.offer("vision", vision)
    seen = fleet.observe()._replace(tick=tick)
    once = decide(fleet.state, seen, POLICY)
    twice = decide(once.state, seen, POLICY)
    assert twice.commands == twice.tables == twice.why == ()


def test_a_forecast_may_raise_capacity_and_never_lowers_it_below_the_demand_of_now():
    raised, kept = Fleet(a_model()), Fleet(a_model())
    raised.run(2.2, {"chat": 50}, peak_rps=350)
    assert targets(raised)["chat"] == 4
    for _ in range(11):
        kept.offer("chat", 350)
        kept.view.forecasts["chat"].peak_10s_quantile_rps[:] = [10.0] * 18
        kept.step()
    assert targets(kept)["chat"] == 4


def test_the_quantile_is_that_of_the_costs():
    assert Policy(cost_miss=99, cost_idle=1).quantile == pytest.approx(0.99)
    fleet = Fleet(a_model())
    costs = ((1, 1), (19, 4), (99, 5))
    for policy, wanted in ((POLICY._replace(cost_miss=cost), n) for cost, n in costs):
        fleet.offer("chat", 10)
        peaks = [100.0, 200.0, 300.0, 400.0, 500.0, 600.0]
        fleet.view.forecasts["chat"].peak_10s_quantile_rps[:] = peaks * 3
        decided = decide(fleet.state, fleet.observe(), policy)
        assert decided.state.target.tolist() == [wanted]


def test_shrinking_waits_for_its_evidence_and_then_drains_one_at_a_time():
    fleet = Fleet(a_model())
    fleet.run(6, {"chat": 350})
    assert len(fleet.replicas_of("chat")) == 4
    assert not moves_of(fleet.run(58, {"chat": 50}))
    assert not moves_of(fleet.run(2, {"chat": 350}))  # needed again: the evidence starts anew
    assert not moves_of(fleet.run(58, {"chat": 50}))
    decisions = fleet.run(12, {"chat": 50})
    drained = moves_of(decisions)
    assert [action for action, _ in drained] == ["drain"] * 3
    assert all(len(of_kind([decision], PlaceReplica)) <= 1 for decision in decisions)
    assert len(fleet.replicas_of("chat")) == 1


def test_a_drained_replica_leaves_the_routing_table_in_the_same_tick():
    fleet = Fleet(a_model())
    fleet.run(6, {"chat": 150})
    decisions = fleet.run(90, {"chat": 50})
    (decision,) = [d for d in decisions if of_kind([d], PlaceReplica)]
    (order,) = of_kind([decision], PlaceReplica)
    assert order.action == "drain"
    assert order.replica not in [route.replica for route in decision.tables[0].replicas]


def test_nothing_is_drained_while_the_rest_could_not_hold_the_requests_that_are_here():
    fleet = Fleet(a_model())
    fleet.run(6, {"chat": 150})
    held = fleet.run(80, {"chat": 10}, in_flight_requests=15)  # a batch of 10 is all the rest takes
    assert not moves_of(held)
    assert moves_of(fleet.run(2, {"chat": 10}, in_flight_requests=8))


def test_stale_data_holds_everything_and_is_said_once():
    fleet = Fleet(a_model())
    fleet.run(6, {"chat": 350})
    fleet.run(59, {"chat": 50})  # just before it would shrink
    before = fleet.state
    fleet.now_ms += 2000
    decisions = [fleet.step() for _ in range(400)]
    assert not of_kind(decisions, (PlaceReplica, ScaleModel, SetBatch))
    assert [(w.action, w.bound) for d in decisions for w in d.why] == [("hold", "no_data")]
    assert fleet.state.theta.tolist() == before.theta.tolist()
    assert fleet.state.concurrency.tolist() == before.concurrency.tolist()
    back = fleet.run(4, {"chat": 50})
    assert back[0].why[0].text == "chat: a forecast is here: decisions go on"
    assert not moves_of(back)  # what happened unseen is no evidence


def test_a_burst_in_the_queue_changes_the_batches_in_the_same_tick():
    fleet = Fleet(a_model())
    fleet.run(6, {"chat": 10})
    fleet.offer("chat", 10, queue_requests=90)
    (batch,) = of_kind([fleet.step()], SetBatch)
    assert batch.batch_size == 10
    # Once it is over, nothing is taken back before its peak has faded below the half.
    assert not of_kind(fleet.run(5, {"chat": 10}), SetBatch)
    assert [c.batch_size for c in of_kind(fleet.run(80, {"chat": 10}), SetBatch)][-1] < 5


def test_noise_moves_no_batch_and_a_lasting_change_moves_the_shares():
    fleet = Fleet(a_model(), policy=NO_STANDBYS._replace(serving_reserve=1.0))
    fleet.run(60, {"chat": 40}, queue_requests=2)
    noisy = []
    for second in range(30):
        noisy += fleet.run(0.6, {"chat": 40}, queue_requests=0)
        noisy += fleet.run(0.4, {"chat": 40}, queue_requests=second % 3)
    assert not of_kind(noisy, SetBatch)
    assert of_kind(fleet.run(60, {"chat": 90}), SetBatch)[-1].serving_share == 0.9


def test_a_replica_that_may_not_be_used_gets_no_command_until_it_may():
    fleet = Fleet(a_model(replicas_min=8))
    fleet.run(6, {"chat": 50})
    assert fleet.state.batch_size.tolist() == [10] * 5 + [0] * 3
    first = of_kind(fleet.run(6, {"chat": 350}), SetBatch)
    assert fleet.state.batch_size.tolist() == [10] * 8
    assert {c.batch_size for c in first} == {10}


def test_only_replicas_needed_and_some_to_wake_may_be_used_and_idle_ones_train():
    fleet = Fleet(a_model(replicas_min=8), policy=NO_STANDBYS._replace(serving_reserve=1.0))
    fleet.run(6, {"chat": 150})
    assert len(fleet.replicas_of("chat")) == 8
    assert fleet.state.concurrency.tolist() == [20] * 6 + [0] * 2
    assert fleet.state.serving_share.tolist() == [1.0, 0.5] + [0.0] * 6


def test_batches_keep_the_objective_and_the_memory():
    tight = Fleet(a_model(objective=Objective(latency_ms=120)), nodes=1, gpus=1)
    tight.run(4, {"chat": 500})
    assert tight.state.batch_size.tolist() == [4]  # 2 x (20 + 5 x 4) = 80 of 84 ms
    heavy = Fleet(a_model(request_bytes=12 * GB), nodes=1, gpus=1)
    heavy.run(4, {"chat": 500})
    assert heavy.state.batch_size.tolist() == [3]  # half of 80 GB, though 62 are free


def test_memory_that_strangers_take_makes_batches_give_way():
    fleet = Fleet(a_model(request_bytes=4 * GB), nodes=1, gpus=1)
    fleet.run(4, {"chat": 500})
    assert fleet.state.batch_size.tolist() == [10]
    fleet.offer("chat", 500)
    seen = fleet.observe()
    after = decide(fleet.state, seen._replace(memory_free=seen.memory_free - 42 * GB), POLICY)
    # 80 - 42 - 18 GB of the model leave 20 GB.
    assert after.state.batch_size.tolist() == [5]


def test_theta_follows_the_measured_latency_each_second():
    fleet = Fleet(a_model())
    decisions = fleet.run(2, {"chat": 10}, slo_ratio_p98=1.2)
    assert fleet.state.theta.tolist() == [0.567]
    said = [w for d in decisions for w in d.why if w.action == "theta"]
    assert [w.numbers["theta"] for w in said] == [0.63, 0.567]
    assert decisions[5].tables[0].theta == 0.567


def test_theta_is_explained_in_good_steps_and_at_its_bounds():
    fleet = Fleet(a_model())
    decisions = fleet.run(20, {"chat": 10}, slo_ratio_p98=0.2)
    said = [w.numbers["theta"] for d in decisions for w in d.why if w.action == "theta"]
    assert said == [0.7878, 0.85]


def test_the_target_is_never_above_what_the_fleet_can_hold():
    fleet = Fleet(a_model(weights_bytes=60 * GB), nodes=1, gpus=2)
    decisions = fleet.run(20, {"chat": 500}) + fleet.run(20, {"chat": 900})
    assert [c.replicas for c in of_kind(decisions, ScaleModel)] == [2]
    (why,) = (w for d in decisions for w in d.why if w.action == "scale")
    assert why.bound == "fleet"
    assert "can hold 2 of the 5 wanted" in why.text
    assert why.numbers["target_on_a_larger_fleet"] == 5


def test_while_no_node_says_what_is_on_it_nothing_is_placed_and_that_is_said_once():
    fleet = Fleet(a_model())
    fleet.offer("chat", 10)
    seen = fleet.observe()
    blind = seen._replace(
        reported_ms=seen.reported_ms * 0 - 1, memory_free=seen.memory_free * 0 - 1
    )
    first = decide(fleet.state, blind, POLICY)
    assert first.commands == ()
    assert [(w.action, w.bound) for w in first.why] == [("hold", "no_data")]
    assert "no node says what is on it" in first.why[0].text
    assert decide(first.state, blind, POLICY).why == ()
    assert moves_of([decide(first.state, seen, POLICY)])


def test_a_recorded_tick_gives_the_same_bytes_when_it_is_run_again():
    fleet = Fleet(a_model("chat"), a_model("vision", weights_bytes=4 * GB), load_ticks=4)
    before = fleet.state
    for tick in range(60):
        fleet.offer("chat", 10 * tick, queue_requests=tick, slo_ratio_p98=tick / 40)
        if tick > 30:
            fleet.offer("vision", 500 - 5 * tick)
        seen = fleet.observe()
        decision = fleet.step()
        wire = record_of(seen, decision.state, 1).SerializeToString(deterministic=True)
        record = type(record_of(seen, before, 1)).FromString(wire)
        again = replay(before, record, POLICY)
        assert again.commands == decision.commands
        assert again.tables == decision.tables
        assert again.why == decision.why
        rerun = record_of(seen, again.state, 1).SerializeToString(deterministic=True)
        assert rerun == wire
        before = state_in(record)
    assert len(wire) < 20_000


def test_the_figures_say_what_resident_replicas_carry_and_nothing_of_those_still_loading():
    fleet = Fleet(a_model(replicas_min=2))
    assert fleet.step().figures.capacity_rps.tolist() == [0]
    fleet.run(2.2, {"chat": 50})
    fleet.offer("chat", 50, queue_requests=7)
    decision = fleet.step()
    (capacity_rps,) = decision.figures.capacity_rps
    one = decide(
        fleet.state, fleet.observe()._replace(replica_stage=np.array([1, 0])), POLICY
    ).figures.capacity_rps
    assert capacity_rps == pytest.approx(2 * one[0])
    assert decision.figures.demand_rps.tolist() == [57]
    assert np.isfinite(decision.figures.foreseen_rps).all()
