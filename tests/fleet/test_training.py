"""Training in what serving leaves: how much, where, and how long a request ever waits for it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.fleet.requests import Requests
from libs.fleet.steps import next_step_ms
from libs.fleet.tables import NEVER_MS
from tests.fleet.worlds import GB, fleet_of, job, model, resident, spec


def test_steps_run_back_to_back_where_there_is_no_model() -> None:
    fleet = fleet_of(spec(gpus=2, training=(job(),)))
    fleet.advance(1000)
    assert fleet.jobs["steps_kept"][0] == 2 * 1000 / 50
    gpu = fleet.gpus["n-0/1"]
    assert (gpu.training_ms, gpu.serving_ms, gpu.free_ms) == (1000, 0, 0)
    assert gpu.busy_training_ms == 1000


def test_jobs_are_taken_in_order_where_they_fit_and_end_with_their_steps() -> None:
    backlog = (job("large", memory_bytes=75 * GB, steps=3), job("small", steps=5))
    fleet = fleet_of(spec(gpus=2, training=backlog), model())
    name = fleet.load("m", "n-0", [1])  # 10 GB: the large job does not fit beside it
    fleet.set_batch(name, 1, 0, 1.0)
    fleet.advance(100)
    assert (fleet.gpus["n-0/0"].job, fleet.gpus["n-0/1"].job) == ("large", "small")
    fleet.advance(2000)
    assert fleet.jobs["steps_kept"].tolist() == [3, 5]


def test_a_resident_model_that_the_router_leaves_alone_costs_no_training() -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(),)), model())
    name = resident(fleet, "m")
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 100)
    before = fleet.gpus["n-0/0"].steps
    fleet.advance(fleet.now_ms + 1000)
    assert fleet.gpus["n-0/0"].steps - before == 20
    assert fleet.accounts()["standby_byte_ms"][0] == pytest.approx(1100 * 10 * GB)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_beside_an_awake_replica_training_gets_its_share_and_no_more(share: float) -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(),)), model())
    name = resident(fleet, "m", batch=4)
    fleet.set_batch(name, 4, 0, serving_share=share)
    before = fleet.gpus["n-0/0"].steps
    fleet.advance(fleet.now_ms + 20_000)
    steps = fleet.gpus["n-0/0"].steps - before
    # A step of 50 ms is charged with both its switches.
    assert steps * 70 <= (1 - share) * 20_000 + 70
    assert steps * 70 >= (1 - share) * 20_000 - 140


def test_the_shares_of_all_awake_replicas_of_a_gpu_add_up() -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(),)), model("a"), model("b"))
    for name in (resident(fleet, "a"), resident(fleet, "b")):
        fleet.set_batch(name, 1, 0, serving_share=0.5)
    fleet.advance(fleet.now_ms + 100)
    before = fleet.gpus["n-0/0"].steps
    fleet.advance(fleet.now_ms + 5000)
    assert fleet.gpus["n-0/0"].steps == before


def test_a_step_too_long_for_an_objective_does_not_start_beside_it() -> None:
    backlog = (job("long", step_ms=200),)
    # 10 + 200 + 10 + 11 ms would be late.
    fleet = fleet_of(spec(gpus=1, training=backlog), model(objective_ms=230))
    name = fleet.load("m", "n-0", [0], concurrency=1)
    fleet.set_batch(name, 1, 0, serving_share=0.1)
    fleet.advance(2000)
    assert fleet.gpus["n-0/0"].job == "long"  # it was here before, and holds its memory
    before = fleet.gpus["n-0/0"].steps
    fleet.advance(4000)
    assert fleet.gpus["n-0/0"].steps == before
    fleet.set_concurrency(name, 0)
    fleet.advance(6000)
    assert fleet.gpus["n-0/0"].steps > before


def test_a_job_that_may_not_step_goes_after_as_long_as_its_going_costs() -> None:
    backlog = (job("long", step_ms=200, checkpoint_s=1, restore_s=2), job("short", step_ms=50))
    # 10 + 200 + 10 + 11 ms would be late; 10 + 50 + 10 + 11 ms is not.
    fleet = fleet_of(spec(gpus=1, training=backlog), model(objective_ms=230))
    name = fleet.load("m", "n-0", [0], concurrency=0)
    fleet.set_batch(name, 1, 0, serving_share=0.1)
    fleet.advance(2100)
    assert fleet.gpus["n-0/0"].job == "long"
    fleet.set_concurrency(name, 1)
    fleet.advance(2200 + 1000 + 2000)  # its last step ends at 2200; then it waits
    assert fleet.gpus["n-0/0"].job == "long"
    fleet.advance(2200 + 3000 + 1000 + 1)  # it has gone, its state saved
    assert fleet.gpus["n-0/0"].job == "short"
    fleet.advance(20_000)
    assert fleet.jobs[["steps_kept", "checkpoints"]][0].tolist() == (11, 1)
    assert fleet.jobs["steps_kept"][1] > 100


def test_of_the_backlog_goes_first_what_gives_way_to_all_who_are_resident() -> None:
    backlog = (job("long", step_ms=200, steps=10), job("short", step_ms=50, steps=10))
    fleet = fleet_of(spec(gpus=1, training=backlog), model(objective_ms=230))
    fleet.set_batch(fleet.place("m", "n-0", [0]), 1, 0, 1.0)
    fleet.set_concurrency("m@n-0:0", 0)
    fleet.advance(10 * 50)  # short ones first, though long ones stand before them
    assert fleet.jobs["steps_kept"].tolist() == [0, 10]
    fleet.advance(10 * 50 + 10 * 200)  # better that than nothing
    assert fleet.jobs["steps_kept"].tolist() == [10, 10]


def test_a_standby_that_asks_for_no_share_costs_no_training() -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(step_ms=50),)), model())
    fleet.set_batch(fleet.place("m", "n-0", [0]), 1, 0, serving_share=0.0)
    fleet.set_concurrency("m@n-0:0", 4)
    fleet.advance(1000)
    assert fleet.jobs["steps_kept"][0] == 20


def test_a_gang_goes_where_one_of_its_gpus_serves_on_and_others_could_step() -> None:
    backlog = (
        job("gang", step_ms=100, gpus=2, checkpoint_s=1, restore_s=1),
        job("single", step_ms=50),
    )
    fleet = fleet_of(spec(gpus=2, training=backlog), model(alpha_ms=49, beta_ms=1))
    name = fleet.place("m", "n-0", [0])
    fleet.set_batch(name, 1, 0, 1.0)
    due_ms = 1000 + 50.0 * np.arange(400)  # as many as it can serve: it never rests
    fleet.submit(Requests.of(due_ms, np.zeros(400)))
    fleet.set_concurrency(name, 0)
    fleet.advance(999)
    assert [gpu.job for gpu in fleet.gpus.values()] == ["gang", "gang"]
    fleet.set_concurrency(name, 9)
    fleet.advance(15_000)
    assert [gpu.job for gpu in fleet.gpus.values()] == [None, "single"]


def test_a_request_waits_for_one_running_step_and_one_switch_at_most() -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(step_ms=80),)), model(alpha_ms=5, beta_ms=1))
    name = resident(fleet, "m")
    fleet.set_batch(name, 1, 0, serving_share=0.3)
    due_ms = fleet.now_ms + 247.3 * np.arange(1, 401)
    fleet.submit(Requests.of(due_ms, np.zeros(400)))
    fleet.advance(due_ms[-1] + 200)
    latency_ms = fleet.latency_ms()
    assert latency_ms.max() <= 10 + 80 + 10 + 6 + 1e-6
    assert latency_ms.max() > 80  # some did meet a step, else this shows nothing
    assert latency_ms.min() == pytest.approx(10 + 6)  # after a step there is always a switch


def test_what_a_gpu_is_charged_for_is_as_defined() -> None:
    fleet = fleet_of(spec(gpus=1, training=(job(step_ms=100),)), model(alpha_ms=20, beta_ms=1))
    name = resident(fleet, "m")
    fleet.set_concurrency(name, 0)
    fleet.advance(2030)  # in a step that began at 2000, as no batch ever ran
    before = fleet.gpus["n-0/0"]
    fleet.set_concurrency(name, 1)
    fleet.submit(Requests.of([2030], [0]))
    fleet.advance(2030)
    fleet.set_concurrency(name, 0)
    fleet.advance(2300)
    gpu = fleet.gpus["n-0/0"]
    # From its coming at 2030: rest of the step until 2100, switch, 21 ms of batch, switch back.
    assert gpu.serving_ms - before.serving_ms == pytest.approx(70 + 10 + 21 + 10)
    assert gpu.training_ms - before.training_ms == pytest.approx(270 - 111)
    assert gpu.busy_serving_ms == 21


def test_a_node_that_has_not_started_does_not_train() -> None:
    fleet = fleet_of(spec(gpus=2, training=(job(),), start_s=3), model())
    fleet.advance(5000)
    fleet.set_batch(fleet.load("m", "n-0", [0], concurrency=0), 1, 0, 1.0)
    fleet.advance(7999)
    assert fleet.jobs["steps_kept"][0] == 0
    fleet.advance(9000)
    assert fleet.jobs["steps_kept"][0] == 40
    assert fleet.gpus["n-0/1"].free_ms == 8000


def test_a_gang_steps_together_and_stops_while_one_of_its_gpus_serves() -> None:
    backlog = (job("gang", step_ms=100, gpus=3),)
    fleet = fleet_of(spec(gpus=4, training=backlog), model(alpha_ms=29, beta_ms=1))
    name = fleet.place("m", "n-0", [1])
    fleet.set_batch(name, 1, 0, 1.0)
    fleet.set_concurrency(name, 0)
    fleet.advance(1000)
    # On the last GPUs, and a step is one however many take part.
    assert [gpu.job for gpu in fleet.gpus.values()] == [None, "gang", "gang", "gang"]
    assert fleet.jobs["steps_kept"][0] == 10
    fleet.set_concurrency(name, 1)
    fleet.submit(Requests.of([1050], [0]))
    fleet.advance(1050)
    fleet.set_concurrency(name, 0)
    fleet.advance(2000)
    # The step until 1100, then 10 + 30 ms of serving while two GPUs wait, and a switch for all.
    assert fleet.latency_ms()[0] == 50 + 10 + 30
    assert fleet.jobs["steps_kept"][0] == 11 + 8
    waiting = fleet.gpus["n-0/3"]
    assert waiting.free_ms == 40
    assert waiting.serving_ms == 10  # it switches with its gang


def test_a_gang_leaves_all_its_gpus_when_the_memory_of_one_is_needed() -> None:
    backlog = (job("gang", step_ms=100, gpus=2, memory_bytes=75 * GB, checkpoint_s=1, restore_s=2),)
    fleet = fleet_of(spec(gpus=2, training=backlog), model())
    fleet.advance(950)
    fleet.load("m", "n-0", [0])
    fleet.advance(1500)
    assert fleet.gpus["n-0/1"].job == "gang"  # it saves its state
    fleet.advance(2100)
    assert [gpu.job for gpu in fleet.gpus.values()] == [None, None]
    assert fleet.jobs[["steps_kept", "checkpoints"]][0].tolist() == (10, 1)
    fleet.advance(4000)
    assert fleet.replica("m@n-0:0").state == "resident"
    fleet.unload("m@n-0:0")
    fleet.advance(6500)
    assert fleet.jobs["restores"][0] == 1
    assert fleet.jobs["steps_kept"][0] == 10 + 5  # from 6000 on, when it had its state


@given(
    st.lists(st.tuples(st.floats(0, 500), st.floats(20, 300)), min_size=1, max_size=30),
    st.floats(0, 0.95),
)
@settings(max_examples=200)
def test_over_any_span_steps_take_at_most_their_share_and_one_step(
    steps: list[tuple[float, float]], shares: float
) -> None:
    # Each (idle, cost): the next step starts `idle` after it first may.
    from_ms, cost_ms = -NEVER_MS, 0.0
    runs = []
    now_ms = 0.0
    for idle_ms, next_cost_ms in steps:
        now_ms = max(now_ms, next_step_ms(from_ms, cost_ms, shares)) + idle_ms
        from_ms, cost_ms = now_ms, next_cost_ms
        runs.append((from_ms, cost_ms))
        now_ms += cost_ms
    for (start_ms, cost_ms), (next_ms, _) in pairwise(runs):
        assert cost_ms <= (1 - shares) * (next_ms - start_ms) + 1e-6
