"""What people set: it holds, its author and end are said, and then it is over."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.common import wire
from libs.common.messages import Override, PlaceReplica, ScaleModel
from services.scheduler.core.policy import Policy
from services.scheduler.tick_record import record_of, replay, state_in
from tests.scheduler.fleets import GB, START_MS, Fleet, a_model, moves_of, of_kind


def by_ada(fleet: Fleet, target: str, kind: str, **fields: object) -> None:
    said = Override.model_validate({"target": target, "kind": kind, "by": "ada", **fields})
    fleet.view.overrides[target] = said


def texts(decisions: list) -> list[str]:
    return [why.text for decision in decisions for why in decision.why]


def nodes_of(fleet: Fleet, model: str) -> list[str]:
    return sorted(name.partition("@")[2].partition(":")[0] for name in fleet.replicas_of(model))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 2000), min_size=1, max_size=5), st.booleans())
def test_nothing_of_a_paused_model_changes_whatever_comes(rates: list[float], every: bool) -> None:
    fleet = Fleet(a_model("chat"), a_model("vision"), nodes=1, gpus=8, policy=Policy())
    fleet.run(4, {"chat": 100, "vision": 50})
    before, target = fleet.replicas_of("chat"), fleet.state.target[0]
    by_ada(fleet, "all" if every else "chat", "pause")
    for rate in rates:
        for decision in fleet.run(4, {"chat": rate, "vision": 50}, slo_ratio_p98=2.0):
            assert not [c for c in decision.commands if c.model == "chat"]
            assert not [table for table in decision.tables if table.model == "chat"]
            assert not (every and (decision.commands or decision.tables))
    assert fleet.replicas_of("chat") == before
    assert fleet.state.target[0] == target


def test_a_pause_ends_at_its_time_by_the_clock_of_the_tick() -> None:
    fleet = Fleet(a_model(), nodes=1, gpus=8)
    fleet.run(4, {"chat": 50})
    by_ada(fleet, "chat", "pause", until_ms=fleet.now_ms + 10_000, reason="load test")
    during = fleet.run(10, {"chat": 500})
    assert len(fleet.replicas_of("chat")) == 1
    after = fleet.run(4, {"chat": 500})
    assert len(fleet.replicas_of("chat")) == 5
    said = "chat: paused by ada until 2023-11-14 22:13:34 UTC (load test)"
    assert said in texts(during)
    assert texts(after)[0] == f"{said}, which is over"


@pytest.mark.parametrize("replicas", [0, 2, 6])
def test_a_pinned_model_has_exactly_so_many_replicas(replicas: int) -> None:
    fleet = Fleet(a_model(replicas_min=1, replicas_max=5), nodes=1, gpus=8, policy=Policy())
    fleet.run(4, {"chat": 300})
    by_ada(fleet, "chat", "pin", replicas=replicas)
    decisions = fleet.run(20, {"chat": 300})
    assert len(fleet.replicas_of("chat")) == replicas
    assert of_kind(decisions, ScaleModel)[-1].replicas == replicas
    why = next(w for d in decisions for w in d.why if w.action == "scale")
    assert why.bound == "operator"
    assert "pinned at" in why.text
    assert "by ada until it is resumed" in why.text


def test_a_pin_beyond_the_memory_of_the_fleet_fills_it_and_says_so() -> None:
    fleet = Fleet(a_model(weights_bytes=50 * GB), nodes=1, gpus=2)
    by_ada(fleet, "chat", "pin", replicas=5)
    decisions = fleet.run(6, {"chat": 10})
    assert len(fleet.replicas_of("chat")) == 2
    assert max(fleet.reserved_bytes().values()) <= 80 * GB
    assert any("the fleet can hold 2 of the 5 wanted" in text for text in texts(decisions))


def test_nothing_new_is_placed_on_a_cordoned_node_and_what_is_there_stays() -> None:
    fleet = Fleet(a_model(replicas_min=2), nodes=2, gpus=4)
    fleet.run(4, {"chat": 10})
    (node, *_) = nodes_of(fleet, "chat")
    there = nodes_of(fleet, "chat").count(node)
    by_ada(fleet, node, "cordon")
    orders = of_kind(fleet.run(10, {"chat": 450}), PlaceReplica)
    assert orders
    assert not [order for order in orders if order.node == node]
    assert nodes_of(fleet, "chat").count(node) == there


def test_a_drained_node_is_left_only_when_others_carry_the_load() -> None:
    fleet = Fleet(a_model(), nodes=2, gpus=4, load_ticks=5)
    fleet.run(6, {"chat": 250})
    node = nodes_of(fleet, "chat")[0]
    by_ada(fleet, node, "cordon", drain=True)
    for _ in range(100):
        fleet.run(0.2, {"chat": 250})
        assert len(fleet.replicas_of("chat")) >= 3
    assert set(nodes_of(fleet, "chat")) == {"n-0", "n-1"} - {node}


def test_a_node_whose_replicas_have_no_other_place_is_not_left() -> None:
    fleet = Fleet(a_model(), nodes=1, gpus=2)
    fleet.run(6, {"chat": 100})
    by_ada(fleet, "n-0", "cordon", drain=True)
    assert not moves_of(fleet.run(10, {"chat": 100}))
    assert fleet.replicas_of("chat")


def test_an_override_of_what_is_not_registered_is_said_to_have_no_effect() -> None:
    fleet = Fleet(a_model())
    by_ada(fleet, "chatt", "pause")
    said = texts(fleet.run(0.2, {"chat": 10}))
    assert said[0].endswith("; without effect, as no such model is registered")


def test_a_tick_under_overrides_runs_again_to_the_same_bytes() -> None:
    fleet = Fleet(a_model("chat"), a_model("vision"), nodes=2, gpus=4)
    by_ada(fleet, "chat", "pin", replicas=3)
    by_ada(fleet, "n-1", "cordon", drain=True, until_ms=START_MS + 2000)
    for tick in range(30):
        fleet.offer("chat", 100 + 10 * tick)
        before, seen = fleet.state, fleet.observe()
        decision = fleet.step()
        record = record_of(seen, decision.state, 0)
        again = replay(before, record, fleet.policy)
        assert (again.commands, again.why) == (decision.commands, decision.why)
        assert wire.pack_columns(again.state) == record.state
        assert wire.pack_columns(state_in(record)) == record.state


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "chat", "kind": "pin"},
        {"target": "chat", "kind": "pause", "replicas": 3},
        {"target": "chat", "kind": "pause", "drain": True},
        {"target": "all", "kind": "cordon"},
        {"target": "chat", "kind": "pause", "by": " "},
        {"target": "chat", "kind": "pause", "until_ms": 1 << 52},
    ],
)
def test_what_says_nothing_clear_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Override.model_validate({"by": "ada", **fields})
