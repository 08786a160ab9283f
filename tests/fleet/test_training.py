"""Training in what serving leaves: how much, where, and how long a request ever waits for it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.fleet.events import BatchEnded, StepEnded
from libs.fleet.fleet import Fleet
from libs.fleet.training import next_step_ms
from tests.fleet.worlds import GB, job, model, of_kind, request, resident, spec


def test_steps_run_back_to_back_where_there_is_no_model() -> None:
    fleet = Fleet(spec(gpus=2, training=(job(),)), at_ms=0)
    events = fleet.advance(1000)
    assert len(of_kind(events, StepEnded)) == 2 * 1000 / 50
    gpu = fleet.gpus["n-0/1"]
    fleet.settle()
    assert (gpu.training_ms, gpu.serving_ms, gpu.free_ms) == (1000, 0, 0)
    assert gpu.busy_training_ms == 1000


def test_jobs_are_taken_in_order_where_they_fit_and_end_with_their_steps() -> None:
    backlog = (job("large", memory_bytes=75 * GB, steps=3), job("small", steps=5))
    fleet = Fleet(spec(gpus=2, training=backlog), at_ms=0)
    fleet.load(model(), "n-0", [1])  # 10 GB: the large job does not fit beside it
    steps = [(e.device, e.job) for e in of_kind(fleet.advance(2000), StepEnded)]
    assert steps.count(("n-0/0", "large")) == 3
    assert ("n-0/1", "large") not in steps
    assert sum(name == "small" for _, name in steps) == 5


def test_a_resident_model_that_the_router_leaves_alone_costs_no_training() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(),)), at_ms=0)
    name = resident(fleet, model())
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 100)
    before = fleet.gpus["n-0/0"].steps
    fleet.advance(fleet.now_ms + 1000)
    assert fleet.gpus["n-0/0"].steps - before == 20


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_beside_an_awake_replica_training_gets_its_share_and_no_more(share: float) -> None:
    fleet = Fleet(spec(gpus=1, training=(job(),)), at_ms=0, switch_ms=10)
    name = resident(fleet, model(), batch=4)
    fleet.set_batch(name, 4, 0, serving_share=share)
    began_ms = fleet.now_ms
    steps = of_kind(fleet.advance(began_ms + 20_000), StepEnded)
    # A step of 50 ms is charged with both its switches.
    assert len(steps) * 70 <= (1 - share) * 20_000 + 70
    assert len(steps) * 70 >= (1 - share) * 20_000 - 140


def test_the_shares_of_all_awake_replicas_of_a_gpu_add_up() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(),)), at_ms=0)
    for name in (resident(fleet, model("a")), resident(fleet, model("b"))):
        fleet.set_batch(name, 1, 0, serving_share=0.5)
    assert of_kind(fleet.advance(fleet.now_ms + 5000), StepEnded) == []


def test_a_step_too_long_for_an_objective_does_not_start_beside_it() -> None:
    backlog = (job("long", step_ms=200), job("short", step_ms=50))
    fleet = Fleet(spec(gpus=1, training=backlog), at_ms=0, switch_ms=10)
    # 10 + 200 + 10 + 11 ms would be late; 10 + 50 + 10 + 11 ms is not.
    name = fleet.load(model(objective_ms=230), "n-0", [0])
    fleet.set_batch(name, 1, 0, serving_share=0.1)
    fleet.set_concurrency(name, 1)
    fleet.advance(2000)
    assert fleet.gpus["n-0/0"].job is not None
    assert fleet.gpus["n-0/0"].job.spec.name == "long"  # it was here before, and holds its memory
    assert of_kind(fleet.advance(4000), StepEnded) == []
    fleet.set_concurrency(name, 0)
    assert of_kind(fleet.advance(6000), StepEnded) != []


def test_a_request_waits_for_one_running_step_and_one_switch_at_most() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(step_ms=80),)), at_ms=0, switch_ms=10)
    name = resident(fleet, model(alpha_ms=5, beta_ms=1))
    fleet.set_batch(name, 1, 0, serving_share=0.3)
    latencies = []
    for number in range(400):
        at_ms = fleet.now_ms + 97.3
        events = fleet.advance(at_ms)
        fleet.dispatch(name, request(number, due_at_ms=at_ms))
        events += fleet.advance(at_ms + 150)
        (batch,) = of_kind(events, BatchEnded)
        latencies.append(batch.at_ms - at_ms)
    assert max(latencies) <= 10 + 80 + 10 + 6 + 1e-6
    assert max(latencies) > 80  # some did meet a step, else this shows nothing
    assert min(latencies) == pytest.approx(10 + 6)  # after a step there is always a switch


def test_what_a_gpu_is_charged_for_is_as_defined() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(step_ms=100),)), at_ms=0, switch_ms=10)
    name = resident(fleet, model(alpha_ms=20, beta_ms=1))
    fleet.set_concurrency(name, 0)
    gpu = fleet.gpus["n-0/0"]
    fleet.advance(2030)  # in a step that began at 2000, as no batch ever ran
    fleet.settle()
    serving_ms, training_ms = gpu.serving_ms, gpu.training_ms
    fleet.dispatch(name, request(0))
    fleet.advance(2300)
    fleet.settle()
    # From its coming at 2030: rest of the step until 2100, switch, 21 ms of batch, switch back.
    assert gpu.serving_ms - serving_ms == pytest.approx(70 + 10 + 21 + 10)
    assert gpu.training_ms - training_ms == pytest.approx(270 - 111)
    assert gpu.busy_serving_ms == 21


def test_a_node_that_has_not_started_does_not_train() -> None:
    fleet = Fleet(spec(gpus=2, training=(job(),), start_s=3), at_ms=0)
    fleet.advance(5000)
    fleet.load(model(), "n-0", [0])
    assert of_kind(fleet.advance(7999), StepEnded) == []
    assert len(of_kind(fleet.advance(9000), StepEnded)) == 40
    fleet.settle()
    assert fleet.gpus["n-0/1"].free_ms == 8000


@given(
    st.lists(st.tuples(st.floats(0, 500), st.floats(20, 300)), min_size=1, max_size=30),
    st.floats(0, 0.95),
)
@settings(max_examples=200)
def test_over_any_span_steps_take_at_most_their_share_and_one_step(
    steps: list[tuple[float, float]], shares: float
) -> None:
    # Each (idle, cost): the next step starts `idle` after it first may.
    from_ms, cost_ms = float("-inf"), 0.0
    runs = []
    now_ms = 0.0
    for idle_ms, next_cost_ms in steps:
        now_ms = max(now_ms, next_step_ms(from_ms, cost_ms, shares)) + idle_ms
        from_ms, cost_ms = now_ms, next_cost_ms
        runs.append((from_ms, cost_ms))
        now_ms += cost_ms
    for (start_ms, cost_ms), (next_ms, _) in pairwise(runs):
        assert cost_ms <= (1 - shares) * (next_ms - start_ms) + 1e-6
