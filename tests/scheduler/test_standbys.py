"""Standbys fill memory that nobody needs; training keeps its part, and who is needed goes first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import PlaceReplica, ScaleModel
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy
from tests.scheduler.fleets import GB, Fleet, a_model, moves_of, of_kind

SHARE = 0.5
STAND_BY = Policy(standby_memory_share=SHARE)


def a_fleet(*models: object, **given: int) -> Fleet:
    return Fleet(*models, policy=STAND_BY, **given)  # type: ignore[arg-type]


def test_memory_is_filled_but_for_the_part_of_training() -> None:
    # 12 GB each with a batch of 1 GB: three of them take 36 of the 40 GB that standbys may fill.
    models = [a_model(n, weights_bytes=10 * GB, activation_bytes=GB, batch_max=1) for n in "abcd"]
    fleet = a_fleet(*models, nodes=1, gpus=2)
    fleet.run(30, dict.fromkeys("abcd", 5))
    assert sum(len(fleet.replicas_of(name)) for name in "abcd") == 2 * 3
    assert max(fleet.reserved_bytes().values()) <= SHARE * 80 * GB
    assert not moves_of(fleet.run(120, dict.fromkeys("abcd", 5))), "and there they stay"


def test_the_target_that_is_published_is_that_of_the_load() -> None:
    fleet = a_fleet(a_model(weights_bytes=4 * GB), nodes=3)
    decisions = fleet.run(20, {"chat": 50})
    assert len(fleet.replicas_of("chat")) == 12
    assert {c.replicas for c in of_kind(decisions, ScaleModel)} == {1}
    said = [why for d in decisions for why in d.why if why.bound == "standby"]
    assert "11 more standing by" in said[-1].text


def test_the_model_that_is_covered_the_fewest_times_gets_the_next_standby() -> None:
    fleet = a_fleet(a_model("busy"), a_model("calm"), nodes=1, gpus=4)
    fleet.run(30, {"busy": 80, "calm": 20})
    busy, calm = (len(fleet.replicas_of(name)) for name in ("busy", "calm"))
    assert busy > calm >= 1


def test_who_is_needed_drives_standbys_out() -> None:
    # A replica takes all that a GPU has; one stands by on each.
    models = [a_model(n, weights_bytes=30 * GB, batch_max=2) for n in ("a", "b")]
    fleet = Fleet(*models, nodes=1, gpus=4, policy=Policy(standby_memory_share=1.0))
    fleet.run(30, {"a": 20, "b": 5})
    assert sum(len(fleet.replicas_of(name)) for name in ("a", "b")) == 4 * 2
    fleet.view.models["c"] = a_model("c", weights_bytes=30 * GB, replicas_min=2)
    fleet.run(30, {"a": 20, "b": 5, "c": 5})
    assert len(fleet.replicas_of("c")) >= 2
    assert fleet.state.short.tolist() == [False] * 3


def test_a_standby_leaves_where_it_holds_the_memory_of_training() -> None:
    fleet = a_fleet(a_model(weights_bytes=20 * GB, batch_max=2), nodes=1, gpus=2)
    fleet.run(20, {"chat": 20})
    assert len(fleet.replicas_of("chat")) == 2
    fleet.offer("chat", 20)
    fleet.tick += -fleet.tick % 10  # a tick that places
    seen = fleet.observe()
    # Strangers take 45 GB of each GPU.
    taken = seen._replace(memory_free=seen.memory_free - 45 * GB)
    (move,) = of_kind([decide(fleet.state, taken, STAND_BY)], PlaceReplica)
    assert move.action == "drain"


# Of loads that one GPU could carry together, so that every target is one replica.
@given(st.floats(0.0, 1.0), st.lists(st.floats(1, 20), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_standbys_never_take_what_training_is_to_have(share: float, rates: list[float]) -> None:
    names = ("a", "b", "c")
    models = [a_model(n, weights_bytes=(4 + 6 * i) * GB) for i, n in enumerate(names)]
    fleet, firm = (
        Fleet(*models, nodes=1, gpus=3, policy=Policy(standby_memory_share=part))
        for part in (share, 0.0)
    )
    for each in (fleet, firm):
        each.run(24, dict(zip(names, rates, strict=True)))
    assert fleet.state.target.tolist() == firm.state.target.tolist() == [1, 1, 1]
    # No GPU is fuller than its share, but for what the targets themselves put there.
    most = max(fleet.reserved_bytes().values())
    assert most <= max(share * 80 * GB, max(firm.reserved_bytes().values())) + 1
