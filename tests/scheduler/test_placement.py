"""Where replicas go: failures, losses, crowded fleets, idle nodes, wide replicas."""

import numpy as np
import pytest

from libs.common.messages import PlaceReplica, SetBatch
from services.scheduler.core.batches import capacity_rps
from services.scheduler.core.decide import decide
from tests.scheduler.fleets import GB, NO_STANDBYS, Fleet, a_model, moves_of, of_kind

POLICY = NO_STANDBYS


def test_a_failed_load_is_tried_elsewhere_at_once_and_there_only_after_a_while():
    fleet = Fleet(a_model(), nodes=1, gpus=2)
    fleet.deaf = True
    first = of_kind([fleet.step()], PlaceReplica)[0]
    fleet.view.failures.append(first.id)
    orders = of_kind([fleet.step() for _ in range(10)], PlaceReplica)
    assert [order.replica for order in orders] != [first.replica]
    fleet.view.failures.extend(order.id for order in orders)
    later = of_kind([fleet.step() for _ in range(70)], PlaceReplica)
    assert later[0].replica == first.replica
    waited = (int(later[0].id.split("-")[1]) - int(first.id.split("-")[1])) * 200
    assert waited >= POLICY.retry_hold_ms


def test_an_order_that_nobody_takes_is_given_again():
    fleet = Fleet(a_model())
    fleet.deaf = True
    orders = of_kind([fleet.step() for _ in range(61)], PlaceReplica)
    assert [int(order.id.split("-")[1]) for order in orders] == [0, 50]


def test_a_replica_that_vanishes_is_replaced_and_told_its_batch_anew():
    fleet = Fleet(a_model())
    fleet.run(4, {"chat": 10})
    (name,) = fleet.replicas_of("chat")
    fleet.lose(name)
    decisions = fleet.run(4, {"chat": 10})
    assert moves_of(decisions) == [("load", name)]
    assert [c.replica for c in of_kind(decisions, SetBatch)] == [name]


def test_a_fleet_that_is_too_small_says_which_model_misses_and_is_short_of_all_alike():
    models = [a_model(name, weights_bytes=60 * GB) for name in ("a", "b", "c")]
    fleet = Fleet(*models, nodes=1, gpus=2)
    decisions = fleet.run(6, {"a": 500, "b": 10, "c": 10})
    assert [len(fleet.replicas_of(name)) for name in "abc"] == [1, 1, 0]
    short = [w for d in decisions for w in d.why if w.bound == "fleet"]
    assert {w.model for w in short} == {"a", "c"}
    assert "as the fleet can hold 0 of the 1 wanted" in next(
        w.text for w in short if w.model == "c"
    )


def test_a_model_that_leaves_the_registry_is_drained_and_a_new_one_changes_nobody_else():
    fleet = Fleet(a_model("a"), a_model("c"))
    fleet.run(4, {"a": 30, "c": 30})
    fleet.view.models["b"] = a_model("b")
    decisions = fleet.run(4, {"a": 30, "b": 30, "c": 30})
    assert {c.model for d in decisions for c in d.commands} == {"b"}
    (gone,) = fleet.replicas_of("a")
    del fleet.view.models["a"]
    assert moves_of(fleet.run(4, {"b": 30, "c": 30})) == [("drain", gone)]


def test_idle_nodes_come_first_and_unknown_scores_are_neutral():
    for scores, node in (({"n-0": 0.9}, "n-1"), ({"n-0": 0.1}, "n-0"), ({"n-1": 0.8}, "n-0")):
        fleet = Fleet(a_model())
        seen = fleet.observe()
        score = np.array([scores.get(seen.nodes[n], np.nan) for n in seen.device_node])
        decision = decide(fleet.state, seen._replace(node_score=score), POLICY)
        assert [c.node for c in of_kind([decision], PlaceReplica)] == [node]


def test_a_node_that_has_not_reported_gets_nothing():
    fleet = Fleet(a_model(replicas_min=8), nodes=2, gpus=4)
    seen = fleet.observe()
    old = np.where(
        seen.device_node == seen.nodes.index("n-1"), seen.now_ms - 6000, seen.reported_ms
    )
    decision = decide(fleet.state, seen._replace(reported_ms=old), POLICY)
    assert {c.node for c in of_kind([decision], PlaceReplica)} == {"n-0"}
    assert len(of_kind([decision], PlaceReplica)) == 4


def test_a_wide_replica_takes_neighbouring_gpus_of_one_node():
    fleet = Fleet(a_model("wide", gpus=2, weights_bytes=100 * GB, replicas_min=4), nodes=2, gpus=4)
    orders = of_kind([fleet.step()], PlaceReplica)
    assert {(o.node, o.gpus) for o in orders} == {
        (node, pair) for node in ("n-0", "n-1") for pair in ((0, 1), (2, 3))
    }


def test_capacity_of_shared_gpus_is_not_counted_twice():
    models = [a_model(name, weights_bytes=GB) for name in ("a", "b")]
    fleet = Fleet(*models, nodes=1, gpus=1)
    fleet.run(4, {"a": 80, "b": 80})
    seen = fleet.observe()
    laws = zip(seen.alpha_ms[:, 0], seen.beta_ms[:, 0], fleet.state.batch_size, strict=True)
    assert [capacity_rps(*law) for law in laws] == pytest.approx([142.857, 142.857], rel=1e-3)
    assert fleet.state.short.tolist() == [False, True]  # a is first by name, and b gets the rest


def test_a_replica_that_vanishes_leaves_the_routing_table_at_once():
    fleet = Fleet(a_model(replicas_min=2))
    fleet.run(4, {"chat": 10})
    gone, rest = fleet.replicas_of("chat")
    fleet.lose(gone)
    (table,) = fleet.run(0.2, {"chat": 10})[0].tables
    assert [route.replica for route in table.replicas] == [rest]
