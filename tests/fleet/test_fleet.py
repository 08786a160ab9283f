"""One fleet in virtual time: loading, batches, memory. Expected times are computed by hand."""

import numpy as np
import pytest

from libs.common.messages import LoadTime
from libs.fleet.events import BatchEnded, FleetError, Gone, HandedBack, Loaded
from libs.fleet.fleet import Fleet
from tests.fleet.worlds import GB, job, model, of_kind, request, resident, spec

# --- Loading --------------------------------------------------------------------------------------


def test_a_load_takes_start_image_transfer_and_compile() -> None:
    fleet = Fleet(spec(start_s=2), at_ms=1_800_000_000_000)
    slow = model(load=LoadTime(image_s=1, bytes=20 * GB, compile_s=3))
    name = fleet.load(slow, "n-0", [0])
    # 2 s the node, 1 s the image, 20 GB at 10 GB/s, 3 s to compile.
    events = fleet.advance(1_800_000_000_000 + 7_999)
    assert events == []
    assert fleet.replicas[name].state == "loading"
    (loaded,) = of_kind(fleet.advance(1_800_000_000_000 + 8_001), Loaded)
    assert loaded.load_ms == pytest.approx(8000, abs=0.01)
    # The node runs now, so a second load does without its start.
    fleet.load(slow, "n-0", [1])
    (loaded,) = of_kind(fleet.advance(fleet.now_ms + 6_001), Loaded)
    assert loaded.load_ms == pytest.approx(6000, abs=0.01)


def test_loads_at_once_share_the_bandwidth_of_their_node() -> None:
    fleet = Fleet(spec(gpus=3), at_ms=0)
    fleet.load(model("a"), "n-0", [0])  # 10 GB at 10 GB/s
    fleet.advance(500)
    fleet.load(model("b"), "n-0", [1])
    # a: half of it alone in 0.5 s, the rest at half the speed. b: half by then, the rest alone.
    loaded = of_kind(fleet.advance(10_000), Loaded)
    assert [(e.model, round(e.at_ms, 3)) for e in loaded] == [("a", 1500), ("b", 2000)]


def test_a_load_that_is_called_off_gives_its_bandwidth_back() -> None:
    fleet = Fleet(spec(), at_ms=0)
    fleet.load(model("a"), "n-0", [0])
    other = fleet.load(model("b"), "n-0", [1])
    fleet.advance(1000)
    fleet.unload(other)
    events = fleet.advance(10_000)
    assert [e.replica for e in of_kind(events, Gone)] == [other]
    assert [round(e.at_ms, 3) for e in of_kind(events, Loaded)] == [1500]
    assert other not in fleet.replicas


@pytest.mark.parametrize(
    ("of", "node", "gpus", "said"),
    [
        (model(), "x", [0], "unknown node 'x'"),
        (model(), "n-0", [2], "n-0 has no GPU 2"),
        (model(), "n-0", [0, 1], r"m takes 1 GPUs, not \[0, 1\]"),
        (model(gpus=2), "n-0", [1, 1], r"m takes 2 GPUs, not \[1, 1\]"),
        (model(weights_bytes=80 * GB), "n-0", [0], "no memory on n-0/0: 81000000000 bytes"),
        (model(law={"tpu": {"alpha_ms": 1, "beta_ms": 1}}), "n-0", [0], "no service law for gpu"),
    ],
)
def test_a_load_that_cannot_be_is_refused_and_changes_nothing(
    of: object, node: str, gpus: list[int], said: str
) -> None:
    fleet = Fleet(spec(), at_ms=0)
    before = fleet.state_of("n-0")
    with pytest.raises(FleetError, match=said):
        fleet.load(of, node, gpus)  # type: ignore[arg-type]
    assert fleet.state_of("n-0") == before


def test_a_replica_is_there_once() -> None:
    fleet = Fleet(spec(), at_ms=0)
    fleet.load(model(), "n-0", [0])
    with pytest.raises(FleetError, match="is there already, loading"):
        fleet.load(model(), "n-0", [0])


def test_the_state_of_a_node_says_what_is_where() -> None:
    fleet = Fleet(spec(training=(job(),)), at_ms=0)
    assert fleet.take_changed() == ["n-0"]
    name = fleet.load(model(gpus=2), "n-0", [0, 1])
    assert fleet.take_changed() == ["n-0"]
    state = fleet.state_of("n-0")
    assert [(gpu.gpu, gpu.memory_bytes_free) for gpu in state.gpus] == [(0, 75 * GB), (1, 75 * GB)]
    (replica,) = state.replicas
    assert (replica.replica, replica.state, replica.memory_bytes) == (name, "loading", 10 * GB)
    assert name == "m@n-0:0+1"
    fleet.advance(10_000)
    assert fleet.take_changed() == ["n-0"]
    assert fleet.state_of("n-0").replicas[0].state == "resident"
    assert fleet.take_changed() == []


# --- Serving --------------------------------------------------------------------------------------


def test_a_batch_starts_when_it_is_full() -> None:
    fleet = Fleet(spec(), at_ms=0)
    name = resident(fleet, model(), batch=3, wait_ms=100)
    began_ms = fleet.now_ms
    for number in range(3):
        fleet.dispatch(name, request(number))
    (batch,) = of_kind(fleet.advance(began_ms + 50), BatchEnded)
    assert batch.at_ms == began_ms + 10 + 3 * 1
    assert [r.request_id for r in batch.requests] == ["r0", "r1", "r2"]


def test_a_batch_that_is_not_full_starts_when_its_oldest_has_waited() -> None:
    fleet = Fleet(spec(), at_ms=0)
    name = resident(fleet, model(), batch=3, wait_ms=100)
    began_ms = fleet.now_ms
    fleet.dispatch(name, request(0))
    fleet.advance(began_ms + 60)
    fleet.dispatch(name, request(1))
    (batch,) = of_kind(fleet.advance(began_ms + 500), BatchEnded)
    assert batch.at_ms == began_ms + 100 + 10 + 2


def test_models_on_one_gpu_take_turns_by_who_waited_longest() -> None:
    fleet = Fleet(spec(), at_ms=0)
    a, b = resident(fleet, model("a"), 0), resident(fleet, model("b"), 0)
    for name in (b, a, b):
        fleet.dispatch(name, request(0))
        fleet.advance(fleet.now_ms + 1)
    events = of_kind(fleet.advance(fleet.now_ms + 1000), BatchEnded)
    assert [e.model for e in events] == ["b", "a", "b"]


def test_a_replica_over_two_gpus_needs_both_and_is_not_starved() -> None:
    fleet = Fleet(spec(), at_ms=0)
    wide = resident(fleet, model("wide", gpus=2), 0, 1)
    left, right = resident(fleet, model("left"), 0), resident(fleet, model("right"), 1)
    began_ms = fleet.now_ms
    fleet.dispatch(left, request(0))  # runs until 11
    fleet.advance(began_ms + 4)
    fleet.dispatch(right, request(1))  # until 15
    fleet.advance(began_ms + 5)
    fleet.dispatch(wide, request(2))
    for number in range(3, 8):
        fleet.advance(fleet.now_ms + 1)
        fleet.dispatch(left, request(number))
        fleet.dispatch(right, request(number))
    batches = of_kind(fleet.advance(began_ms + 500), BatchEnded)
    # The left GPU is kept free for it from 11 on, though others wait there.
    assert [(b.model, b.at_ms - began_ms) for b in batches[:3]] == [
        ("left", 11), ("right", 15), ("wide", 26),
    ]  # fmt: skip


def test_an_outlook_counts_all_that_stands_before_a_new_request() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(step_ms=100),)), at_ms=0, switch_ms=10)
    name = resident(fleet, model("a"), batch=2, wait_ms=5)
    other = resident(fleet, model("b", alpha_ms=20, beta_ms=5), batch=2, wait_ms=500)
    for one in (name, other):
        fleet.set_concurrency(one, 0)
    fleet.advance(3030)  # in the step that ends at 3100
    fleet.set_concurrency(name, 9)
    seen = fleet.outlook(name)
    assert seen is not None
    assert (seen.concurrency, seen.held, seen.waiting) == (9, 0, 0)
    assert seen.free_in_ms == 70 + 10  # rest of the step, switch back
    for number in range(3):
        fleet.dispatch(other, request(number))
    fleet.dispatch(name, request(3))
    fleet.advance(3040)
    seen = fleet.outlook(name)
    assert seen is not None
    assert seen.free_in_ms == 60 + 10 + (20 + 2 * 5) + (20 + 5)  # and the other's two batches
    assert (seen.held, seen.waiting, seen.oldest_waited_ms) == (1, 1, 10)
    fleet.advance(3141)  # its own batch ran from 3110 to 3121, the other's runs until 3151
    seen = fleet.outlook(name)
    assert seen is not None
    assert (seen.held, seen.waiting, seen.free_in_ms) == (0, 0, 10 + 25)


def test_draining_serves_what_is_there_and_unloading_hands_it_back() -> None:
    fleet = Fleet(spec(), at_ms=0)
    drained, unloaded = resident(fleet, model(), 0), resident(fleet, model(), 1)
    for name in (drained, unloaded):
        for number in range(3):
            fleet.dispatch(name, request(number))
    fleet.advance(fleet.now_ms + 1)  # the first of each runs
    fleet.drain(drained)
    fleet.unload(unloaded)
    assert {replica.state for replica in fleet.state_of("n-0").replicas} == {"draining"}
    events = fleet.advance(fleet.now_ms + 1000)
    served = [(e.replica, r.request_id) for e in of_kind(events, BatchEnded) for r in e.requests]
    (back,) = of_kind(events, HandedBack)
    assert [r.request_id for r in back.requests] == ["r1", "r2"]
    assert sorted(served) == [(drained, "r0"), (drained, "r1"), (drained, "r2"), (unloaded, "r0")]
    assert sorted(e.replica for e in of_kind(events, Gone)) == [drained, unloaded]
    assert fleet.replicas == {}


def test_waiting_under_poisson_arrivals_is_that_of_an_m_d_1_queue() -> None:
    fleet = Fleet(spec(gpus=1), at_ms=0)
    name = resident(fleet, model(alpha_ms=0, beta_ms=10))
    rng = np.random.default_rng(7)
    arrivals_ms = fleet.now_ms + np.cumsum(rng.exponential(10 / 0.7, 40_000))
    events = []
    for number, at_ms in enumerate(arrivals_ms):
        events += fleet.advance(at_ms)
        fleet.dispatch(name, request(number, due_at_ms=at_ms))
    events += fleet.advance(fleet.now_ms + 100_000)
    batches = of_kind(events, BatchEnded)
    waited_ms = [b.at_ms - 10 - r.due_at_ms for b in batches for r in b.requests]
    assert len(waited_ms) == 40_000
    # Pollaczek-Khinchine for a fixed service time: W = rho s / (2 (1 - rho)) = 11.67 ms.
    assert np.mean(waited_ms) == pytest.approx(0.7 * 10 / (2 * 0.3), rel=0.06)


# --- Memory ---------------------------------------------------------------------------------------


def test_a_batch_above_the_memory_kills_its_replica_and_hands_its_requests_back() -> None:
    fleet = Fleet(spec(), at_ms=0)
    name = resident(fleet, model(request_bytes=24 * GB), batch=3, wait_ms=50)
    other = resident(fleet, model("other"), 1)
    for number in range(2):  # 10 + 2 x 24 GB fit into 80
        fleet.dispatch(name, request(number))
    assert len(of_kind(fleet.advance(fleet.now_ms + 500), BatchEnded)) == 1
    for number in range(3):  # 10 + 3 x 24 GB do not
        fleet.dispatch(name, request(number))
    events = fleet.advance(fleet.now_ms + 500)
    (back,) = of_kind(events, HandedBack)
    assert len(back.requests) == 3
    assert [(e.replica, e.reason) for e in of_kind(events, Gone)] == [(name, "out of memory")]
    assert fleet.gpus["n-0/0"].out_of_memory == 1
    assert fleet.gpus["n-0/0"].allocated_bytes == 0
    assert list(fleet.replicas) == [other]


def test_a_training_job_leaves_by_a_checkpoint_when_a_load_needs_its_memory() -> None:
    long = job(memory_bytes=75 * GB, step_ms=100, checkpoint_s=2)
    fleet = Fleet(spec(gpus=1, training=(long,)), at_ms=0)
    fleet.advance(150)  # in the middle of its second step
    fleet.load(model(), "n-0", [0])
    assert fleet.gpus["n-0/0"].allocated_bytes == 75 * GB
    (loaded,) = of_kind(fleet.advance(10_000), Loaded)
    assert loaded.at_ms == pytest.approx(200 + 2000 + 1000, abs=0.01)
    assert fleet.gpus["n-0/0"].steps == 2
    assert fleet.gpus["n-0/0"].out_of_memory == 0


def test_a_job_that_a_larger_batch_leaves_no_room_goes_before_anybody_waits_for_it() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(memory_bytes=60 * GB, checkpoint_s=1),)), at_ms=0)
    name = resident(fleet, model(), batch=1)
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 500)
    fleet.set_batch(name, 15, 0, 1.0)
    fleet.set_concurrency(name, 100)
    fleet.advance(fleet.now_ms + 1100)
    began_ms = fleet.now_ms
    for number in range(15):
        fleet.dispatch(name, request(number))
    (batch,) = of_kind(fleet.advance(began_ms + 100), BatchEnded)
    assert batch.at_ms - began_ms == 10 + 10 + 15  # a switch, and no checkpoint


def test_a_larger_batch_drives_training_out_rather_than_the_replica() -> None:
    fleet = Fleet(spec(gpus=1, training=(job(memory_bytes=60 * GB, checkpoint_s=1),)), at_ms=0)
    name = resident(fleet, model(), batch=1)
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 500)
    assert fleet.gpus["n-0/0"].job is not None  # 10 + 1 + 60 GB
    fleet.set_batch(name, 15, 20, 0.5)
    for number in range(15):
        fleet.dispatch(name, request(number))
    events = fleet.advance(fleet.now_ms + 3000)
    assert [len(e.requests) for e in of_kind(events, BatchEnded)] == [15]
    assert of_kind(events, Gone) == []
    assert fleet.gpus["n-0/0"].job is None
