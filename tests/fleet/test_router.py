"""The router on a fleet: tables, queues, and what becomes of requests."""

from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from libs.fleet.router import End, Router
from libs.fleet.tables import OK
from tests.fleet.worlds import job, llm, model, request, resident, spec, table


def ends(router: Router, until_ms: float, *arrivals: object) -> list[End]:
    return router.turn(until_ms, arrivals).ends  # type: ignore[arg-type]


def two_replicas(**given: object) -> tuple[FleetModel, Router, str, str]:
    fleet = FleetModel(spec(gpus=2))
    router = Router(fleet)
    one = model(alpha_ms=90, beta_ms=10, objective_ms=500, **given)
    router.register(one)
    first, second = resident(fleet, "m", 0), resident(fleet, "m", 1)
    router.follow(table("m", (first, 100), (second, 100)))
    return fleet, router, first, second


def test_load_packs_on_the_first_replica_and_the_second_wakes_when_it_cannot() -> None:
    fleet, router, first, second = two_replicas()
    # At 100 ms each and theta x 500 = 350 ms the first takes three, in its order.
    arrivals = [request(i, fleet.now_ms) for i in range(5)]
    ended = ends(router, fleet.now_ms, *arrivals) + ends(router, fleet.now_ms + 1000)
    by_replica = {
        name: [e.request.request_id for e in ended if e.replica == name] for name in (first, second)
    }
    assert by_replica == {first: ["r0", "r1", "r2"], second: ["r3", "r4"]}


def test_a_slow_trickle_never_wakes_the_second() -> None:
    fleet, router, first, _ = two_replicas()
    ended = []
    for number in range(20):
        at_ms = fleet.now_ms + 120
        ended += ends(router, at_ms, request(number, at_ms))
    assert {end.replica for end in ended} == {first}


def test_the_step_that_runs_is_part_of_a_prediction() -> None:
    fleet = FleetModel(spec(gpus=2, training=(job(step_ms=300),)))
    router = Router(fleet)
    one = model(alpha_ms=90, beta_ms=10, objective_ms=500)
    router.register(one)
    names = [fleet.load("m", "n-0", [gpu], concurrency=0) for gpu in (0, 1)]
    for name in names:
        fleet.set_batch(name, 1, 0, 1.0)
    router.turn(5000 + 20)  # both train since 4800, being at concurrency 0
    router.follow(table("m", (names[0], 9), (names[1], 9)))
    # The step ends at 5100: 80 + 10 + 100 ms fit into 350; the next step would not have.
    (end,) = ends(router, 5020, request(0, 5020)) + ends(router, 5300)
    assert (end.replica, end.latency_ms) == (names[0], 80 + 10 + 100)


def test_no_batch_comes_between_the_tokens_of_an_llm() -> None:
    fleet = FleetModel(spec(gpus=2), [model("b", alpha_ms=40, beta_ms=1, objective_ms=1000), llm()])
    chat = [fleet.place("m", "n-0", [gpu]) for gpu in (0, 1)]
    batch = [fleet.place("b", "n-0", [gpu]) for gpu in (0, 1)]
    for name in batch:
        fleet.set_batch(name, 8, 0, 1.0)
    fleet.follow(table("m", *((name, 9) for name in chat)))
    fleet.follow(table("b", *((name, 9) for name in batch)))
    of_llm, of_batch = fleet.model_index["m"], fleet.model_index["b"]
    # An answer of 100 tokens on the first GPU; the batches, whose first replica is there, go to the
    # second, and a second answer stays with the first.
    requests = Requests.of(
        [0.0, 100.0, 110.0, 500.0],
        [of_llm, of_batch, of_llm, of_batch],
        [100, 0, 100, 0],
        [100, 0, 100, 0],
    )
    fleet.submit(requests)
    fleet.advance(5000)
    assert (fleet.requests["status"] == OK).all()
    assert fleet.tpot_ms()[[0, 2]].max() < 25
    assert fleet.gpus["n-0/1"].busy_serving_ms == 2 * 41


def test_requests_wait_for_a_first_replica_and_keep_their_order() -> None:
    fleet = FleetModel(spec())
    router = Router(fleet)
    router.register(model())
    assert ends(router, 100, *[request(i, 100) for i in range(3)]) == []
    assert router.queued("m") == 3
    name = fleet.load("m", "n-0", [0])
    fleet.set_batch(name, 1, 0, 1.0)
    router.follow(table("m", (name, 8)))  # written before the replica is resident
    assert router.turn(1099).ends == []
    ended = ends(router, 2000)
    assert [end.request.request_id for end in ended] == ["r0", "r1", "r2"]
    assert ended[0].latency_ms == 1000 + 11
    assert router.queued("m") == router.running("m") == 0


def test_concurrency_bounds_what_a_replica_holds() -> None:
    fleet = FleetModel(spec())
    router = Router(fleet)
    router.register(model())
    name = resident(fleet, "m")
    router.follow(table("m", (name, 2)))
    router.turn(fleet.now_ms, [request(i, fleet.now_ms) for i in range(5)])
    assert fleet.replicas[name].held == 2
    assert (router.queued("m"), router.running("m")) == (4, 1)


def test_only_a_newer_table_is_followed_and_who_is_left_out_gets_nothing() -> None:
    fleet, router, first, second = two_replicas()
    assert router.follow(table("m", (second, 5), epoch=2, tick=7))
    assert (fleet.replicas[first].concurrency, fleet.replicas[second].concurrency) == (0, 5)
    assert not router.follow(table("m", (first, 9), epoch=2, tick=6))
    assert not router.follow(table("m", (first, 9), epoch=1, tick=99))
    assert fleet.replicas[first].concurrency == 0


def test_a_hopeless_request_is_rejected_at_once_where_the_model_says_so() -> None:
    fleet, router, _, _ = two_replicas(on_late="reject")
    now_ms = fleet.now_ms
    late = request(0, now_ms - 401)  # 100 ms of service would end past 500
    (end,) = ends(router, now_ms, late)
    assert (end.status, end.latency_ms) == ("rejected", 401)
    assert end.reason == "cannot meet its objective any more"
    assert ends(router, now_ms, request(1, now_ms - 399)) == []
    (end,) = ends(router, now_ms + 200)
    assert end.status == "ok"


def test_a_request_that_waits_for_a_replica_is_rejected_when_it_becomes_hopeless() -> None:
    router = Router(FleetModel(spec()))
    router.register(model(objective_ms=500, on_late="reject"))
    assert ends(router, 100, request(0, 100)) == []
    assert router.next_event_ms() == 100 + 500 - 11
    (end,) = ends(router, 10_000)
    assert (end.status, end.at_ms) == ("rejected", 589)


def test_without_rejection_a_late_request_is_still_served() -> None:
    fleet, router, _, _ = two_replicas()
    (end,) = ends(router, fleet.now_ms, request(0, fleet.now_ms - 5000)) + ends(
        router, fleet.now_ms + 100
    )
    assert (end.status, end.latency_ms) == ("late", 5100)


def test_when_a_replica_is_unloaded_its_requests_go_to_another_first() -> None:
    fleet, router, first, second = two_replicas()
    router.turn(fleet.now_ms, [request(i, fleet.now_ms) for i in range(3)])
    fleet.unload(first)
    ended = ends(router, fleet.now_ms + 1000)
    assert [(e.request.request_id, e.replica) for e in ended] == [
        ("r0", first), ("r1", second), ("r2", second),
    ]  # fmt: skip


def test_a_model_that_is_removed_rejects_who_waits_and_serves_who_runs() -> None:
    fleet, router, first, _ = two_replicas()
    router.follow(table("m", (first, 1), tick=1))
    router.turn(fleet.now_ms, [request(i, fleet.now_ms) for i in range(3)])
    router.forget("m")
    assert not router.knows("m")
    ended = ends(router, fleet.now_ms + 1000)
    assert sorted(end.status for end in ended) == ["ok", "rejected", "rejected"]


def test_requests_handed_back_after_their_model_was_removed_are_rejected() -> None:
    fleet, router, first, second = two_replicas()
    router.turn(fleet.now_ms, [request(i, fleet.now_ms) for i in range(3)])
    router.forget("m")
    for name in (first, second):
        fleet.unload(name)
    ended = ends(router, fleet.now_ms + 1000)
    assert sorted(end.status for end in ended) == ["ok", "rejected", "rejected"]
    assert router.queued("m") == 0


def test_a_model_that_comes_while_others_wait_takes_nobody_s_turn() -> None:
    fleet = FleetModel(spec(gpus=2), [model("a"), model("b")])
    for gpu, name in enumerate("ab"):
        fleet.place(name, "n-0", [gpu])
    router = Router(fleet)
    for number in range(30):
        for name in "ba":
            fleet.enter(name, fleet.now_ms)
        router.register(model(f"new-{number}"))
        fleet.advance(fleet.now_ms + 100)
    assert fleet.models["ok"][:2].tolist() == [30, 30]
