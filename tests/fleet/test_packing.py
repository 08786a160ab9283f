"""Late binding and migration: requests wait for a step's end, and tails of bursts move on."""

import numpy as np
import pytest

from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from tests.fleet.worlds import fleet_of, job, llm, model, spec


def training_fleet(objective_ms: float, batch: int = 16) -> FleetModel:
    """One GPU that trains in steps of 50 ms, which end at 50, 100, ..., beside a model that may."""
    fleet = fleet_of(
        spec(gpus=1, training=(job(),)), model(objective_ms=objective_ms), switch_ms=0.0
    )
    fleet.set_batch(fleet.place("m", "n-0", [0]), batch, 0, 0.0)
    return fleet


def starts(fleet: FleetModel, due_ms: list[float]) -> list[float]:
    """The times at which the batches of requests began: each takes 10 + 1 x size ms."""
    fleet.submit(Requests.of(due_ms, [0] * len(due_ms)))
    fleet.advance(2000)
    table = fleet.requests
    return (table["ended_ms"] - 10 - table["batch_size"]).tolist()


def test_a_request_waits_for_as_many_steps_as_its_objective_allows_and_finds_company() -> None:
    # Of 0.7 x 300 = 210 ms, 12 for the two: at 150 there is time for one more step, at 200 none.
    fleet = training_fleet(objective_ms=300)
    assert starts(fleet, [10.0, 130.0]) == [200.0, 200.0]


def test_the_gpu_is_charged_to_training_until_then() -> None:
    fleet = training_fleet(objective_ms=300)
    starts(fleet, [10.0, 130.0])
    assert fleet.accounts()["serving_ms"][0] == pytest.approx(12.0)


def test_what_fills_a_batch_waits_for_no_second_step() -> None:
    fleet = training_fleet(objective_ms=1000, batch=2)
    assert starts(fleet, [10.0, 20.0]) == [50.0, 50.0]


def test_who_is_held_back_goes_elsewhere_when_the_replica_goes() -> None:
    fleet = fleet_of(spec(gpus=2, training=(job(),)), model(objective_ms=5000), switch_ms=0.0)
    first, second = (fleet.place("m", "n-0", [gpu]) for gpu in (0, 1))
    for name in (first, second):
        fleet.set_batch(name, 16, 0, 0.0)
    fleet.set_order("m", [first, second])
    fleet.submit(Requests.of([10.0], [0]))
    fleet.advance(60)
    fleet.drain(first)
    fleet.advance(6000)
    assert fleet.replica_names[int(fleet.requests["replica"][0])] == second
    assert fleet.latency_ms()[0] <= 0.7 * 5000


def burst(nodes: int) -> FleetModel:
    """Twenty long answers at one moment, more than one replica has time for, on two GPUs."""
    each = 2 // nodes
    fleet = fleet_of(spec(gpus=each, nodes=nodes), llm(ttft_ms=300))
    for n in range(2):
        name = fleet.place("m", f"n-{n // each}", [n % each])
        fleet.set_concurrency(name, 64)
    fleet.submit(Requests.of(np.zeros(20), [0] * 20, [400] * 20, [200] * 20))
    fleet.advance(20_000)
    return fleet


def test_the_tail_of_a_burst_moves_on_to_the_replica_before() -> None:
    together, apart = burst(nodes=1), burst(nodes=2)
    assert together.models["migrations"][0] > 0
    assert apart.models["migrations"][0] == 0  # not over a network
    busy = [fleet.accounts()["busy_serving_ms"] for fleet in (together, apart)]
    assert busy[0][1] < 0.5 * busy[1][1]  # the second GPU is free much sooner
    for fleet in (together, apart):
        assert (fleet.requests["status"] == 1).all()
        assert (fleet.requests["generated"] == 200).all()
        assert fleet.tpot_ms().max() <= 25.0


def test_whoever_moves_reads_and_writes_what_it_would_have_where_it_was() -> None:
    together, apart = burst(nodes=1).work(), burst(nodes=2).work()
    for field in ("done_requests", "done_prefill_tokens", "done_decodes", "done_kv_reads"):
        assert together[field].sum() == pytest.approx(apart[field].sum())
