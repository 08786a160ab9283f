"""One fleet in virtual time: loading, batches, memory. Expected times are computed by hand."""

from typing import Any

import numpy as np
import pytest

from libs.common.messages import LoadTime
from libs.fleet.model import FleetError, FleetModel, Gone, Loaded
from libs.fleet.requests import Requests
from tests.fleet.worlds import GB, fleet_of, job, model, of_kind, resident, spec

# --- Loading --------------------------------------------------------------------------------------


def loads(fleet: FleetModel, until_ms: float) -> list[Loaded]:
    fleet.advance(until_ms)
    return of_kind(fleet.take_events(), Loaded)


def test_a_load_takes_start_image_transfer_and_compile() -> None:
    slow = model(load=LoadTime(image_s=1, bytes=20 * GB, compile_s=3))
    at_ms = 1_800_000_000_000
    fleet = FleetModel(spec(start_s=2), [slow], at_ms)
    name = fleet.load("m", "n-0", [0])
    # 2 s the node, 1 s the image, 20 GB at 10 GB/s, 3 s to compile.
    assert loads(fleet, at_ms + 7_999) == []
    assert fleet.replicas[name].state == "loading"
    (loaded,) = loads(fleet, at_ms + 8_001)
    assert loaded.load_ms == pytest.approx(8000, abs=0.01)
    # The node runs now, so a second load does without its start.
    fleet.load("m", "n-0", [1])
    (loaded,) = loads(fleet, fleet.now_ms + 6_001)
    assert loaded.load_ms == pytest.approx(6000, abs=0.01)


def test_loads_at_once_share_the_bandwidth_of_their_node() -> None:
    fleet = fleet_of(spec(gpus=3), model("a"), model("b"))
    fleet.load("a", "n-0", [0])  # 10 GB at 10 GB/s
    fleet.advance(500)
    fleet.load("b", "n-0", [1])
    # a: half of it alone in 0.5 s, the rest at half the speed. b: half by then, the rest alone.
    said = [(e.replica, round(e.at_ms, 3)) for e in loads(fleet, 10_000)]
    assert said == [("a@n-0:0", 1500), ("b@n-0:1", 2000)]


def test_a_load_that_is_called_off_gives_its_bandwidth_back() -> None:
    fleet = fleet_of(spec(), model("a"), model("b"))
    fleet.load("a", "n-0", [0])
    other = fleet.load("b", "n-0", [1])
    fleet.advance(1000)
    fleet.unload(other)
    assert [e.replica for e in of_kind(fleet.take_events(), Gone)] == [other]
    assert [round(e.at_ms, 3) for e in loads(fleet, 10_000)] == [1500]
    assert other not in fleet.replicas


@pytest.mark.parametrize(
    ("of", "name", "node", "gpus", "said"),
    [
        (model(), "other", "n-0", [0], "unknown model 'other'"),
        (model(), "m", "x", [0], "unknown node 'x'"),
        (model(), "m", "n-0", [2], "n-0 has no GPU 2"),
        (model(), "m", "n-0", [0, 1], r"m takes 1 GPUs, not \[0, 1\]"),
        (model(gpus=2), "m", "n-0", [1, 1], r"m takes 2 GPUs, not \[1, 1\]"),
        (model(weights_bytes=80 * GB), "m", "n-0", [0], "no memory on n-0/0: 81000000000 bytes"),
        (
            model(law={"tpu": {"alpha_ms": 1, "beta_ms": 1}}), "m", "n-0", [0],
            "no service law for gpu",
        ),
    ],
)  # fmt: skip
def test_a_load_that_cannot_be_is_refused_and_changes_nothing(
    of: Any, name: str, node: str, gpus: list[int], said: str
) -> None:
    fleet = fleet_of(spec(), of)
    before = fleet.state_of("n-0")
    with pytest.raises(FleetError, match=said):
        fleet.load(name, node, gpus)
    assert fleet.state_of("n-0") == before


def test_a_replica_is_there_once() -> None:
    fleet = fleet_of(spec(), model())
    fleet.load("m", "n-0", [0])
    with pytest.raises(FleetError, match="is there already, loading"):
        fleet.load("m", "n-0", [0])


def test_the_state_of_a_node_says_what_is_where() -> None:
    fleet = fleet_of(spec(training=(job(),)), model(gpus=2))
    assert fleet.take_changed() == ["n-0"]
    name = fleet.load("m", "n-0", [0, 1])
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


def test_a_model_in_host_memory_comes_back_at_the_speed_of_the_host() -> None:
    slow = model(load=LoadTime(image_s=1, bytes=20 * GB, compile_s=3))
    fleet = fleet_of(spec(host_memory_bytes=30 * GB, host_bytes_per_s=20 * GB), slow)
    name = fleet.place("m", "n-0", [0])
    fleet.to_host(name)
    fleet.advance(500)
    assert fleet.replicas[name].state == "draining"
    assert fleet.free_bytes[0] == 70 * GB
    fleet.advance(1001)
    assert fleet.state_of("n-0").replicas[0].state == "host"
    assert fleet.free_bytes[0] == 80 * GB
    # Back on the other GPU, without image and compilation.
    other = fleet.load("m", "n-0", [1])
    (loaded,) = loads(fleet, 5000)
    assert (loaded.replica, loaded.load_ms) == (other, pytest.approx(1000, abs=0.01))
    assert list(fleet.replicas) == [other]
    fleet.to_host(other)  # its place there is free again
    fleet.advance(10_000)
    assert fleet.replicas[other].state == "host"
    fleet.unload(other)
    assert fleet.replicas == {}


def test_host_memory_that_is_full_takes_no_more() -> None:
    fleet = fleet_of(spec(host_memory_bytes=15 * GB), model())
    first, second = fleet.place("m", "n-0", [0]), fleet.place("m", "n-0", [1])
    fleet.to_host(first)
    with pytest.raises(FleetError, match="no host memory for m@n-0:1: 10000000000 bytes needed"):
        fleet.to_host(second)
    assert fleet.replicas[second].state == "resident"


def test_a_way_to_host_memory_that_is_called_off_leaves_its_place_there_free() -> None:
    fleet = fleet_of(spec(host_memory_bytes=15 * GB, host_bytes_per_s=10 * GB), model())
    first, second = fleet.place("m", "n-0", [0]), fleet.place("m", "n-0", [1])
    fleet.to_host(first)
    fleet.advance(500)
    fleet.drain(first)  # half of it was moved
    assert list(fleet.replicas) == [second]
    fleet.to_host(second)
    fleet.advance(1600)
    assert fleet.replicas[second].state == "host"
    assert fleet.free_bytes.tolist() == [80 * GB, 80 * GB]


# --- Serving --------------------------------------------------------------------------------------


def send(fleet: FleetModel, *due_ms: float, of: str = "m") -> None:
    """Requests on their way, from now."""
    at_ms = [fleet.now_ms + due for due in due_ms]
    fleet.submit(Requests.of(at_ms, [fleet.model_index[of]] * len(at_ms)))


def ended(fleet: FleetModel) -> list[tuple[int, float]]:
    """(request, when it ended), in the order of the ends."""
    table = fleet.requests
    return [(row, float(table[row]["ended_ms"])) for row in fleet.take_ended()]


def test_a_batch_starts_when_it_is_full() -> None:
    fleet = fleet_of(spec(), model())
    resident(fleet, "m", batch=3, wait_ms=100)
    began_ms = fleet.now_ms
    send(fleet, 0, 0, 0)
    fleet.advance(began_ms + 50)
    assert ended(fleet) == [(row, began_ms + 10 + 3 * 1) for row in (0, 1, 2)]
    assert fleet.requests["batch_size"].tolist() == [3, 3, 3]


def test_a_batch_that_is_not_full_starts_when_its_oldest_has_waited() -> None:
    fleet = fleet_of(spec(), model())
    resident(fleet, "m", batch=3, wait_ms=100)
    began_ms = fleet.now_ms
    send(fleet, 0, 60)
    fleet.advance(began_ms + 500)
    assert ended(fleet) == [(row, began_ms + 100 + 10 + 2) for row in (0, 1)]


def test_models_on_one_gpu_take_turns_by_who_waited_longest() -> None:
    fleet = fleet_of(spec(), model("a"), model("b"))
    for name in ("a", "b"):
        resident(fleet, name, 0)
    began_ms = fleet.now_ms
    at_ms = [began_ms, began_ms + 1, began_ms + 2]
    fleet.submit(Requests.of(at_ms, [1, 0, 1]))
    fleet.advance(began_ms + 1000)
    assert [row for row, _ in ended(fleet)] == [0, 1, 2]


def test_a_replica_over_two_gpus_needs_both_and_is_not_starved() -> None:
    fleet = fleet_of(spec(), model("wide", gpus=2), model("left"), model("right"))
    resident(fleet, "wide", 0, 1)
    resident(fleet, "left", 0)
    resident(fleet, "right", 1)
    began_ms = fleet.now_ms
    left, right, wide = 1, 2, 0
    # The first of the left runs until 11, the first of the right until 15.
    due = [(0, left), (4, right), (5, wide)]
    due += [(6 + n, m) for n in range(5) for m in (left, right)]
    fleet.submit(Requests.of([began_ms + at for at, _ in due], [m for _, m in due]))
    fleet.advance(began_ms + 500)
    table = fleet.requests
    ends = [(int(table[row]["model"]), at_ms - began_ms) for row, at_ms in ended(fleet)]
    # The left GPU is kept free for the wide one from 11 on, though others wait there.
    assert ends[:3] == [(left, 11), (right, 15), (wide, 26)]


def test_draining_serves_what_is_there_and_unloading_hands_it_back() -> None:
    fleet = fleet_of(spec(), model())
    first, second = resident(fleet, "m", 0), resident(fleet, "m", 1)
    fleet.set_router("m", "jsq")
    send(fleet, *[0.0] * 6)
    fleet.advance(fleet.now_ms + 1)  # the first of each runs
    fleet.drain(first)
    fleet.unload(second)
    assert {replica.state for replica in fleet.state_of("n-0").replicas} == {"draining"}
    assert fleet.models["handed_back"][0] == 2
    fleet.advance(fleet.now_ms + 1000)
    assert len(ended(fleet)) == 4
    assert sorted(e.replica for e in of_kind(fleet.take_events(), Gone)) == [first, second]
    assert fleet.replicas == {}
    assert fleet.models["queue"][0] == 2  # they wait for a replica to come


# --- Memory ---------------------------------------------------------------------------------------


def test_a_batch_above_the_memory_kills_its_replica_and_hands_its_requests_back() -> None:
    fleet = fleet_of(spec(), model(request_bytes=10 * GB))
    killed, other = resident(fleet, "m", 0, batch=8), resident(fleet, "m", 1, batch=1)
    fleet.set_concurrency(other, 0)
    send(fleet, *[0.0] * 8)  # 10 + 80 GB
    fleet.advance(fleet.now_ms + 5)
    (gone,) = of_kind(fleet.take_events(), Gone)
    assert (gone.replica, gone.reason) == (killed, "out of memory")
    assert fleet.gpus["n-0/0"].out_of_memory == 1
    assert fleet.models["queue"][0] == 8
    fleet.set_concurrency(other, 10)
    fleet.advance(fleet.now_ms + 1000)
    assert fleet.models["ok"][0] == 8


def test_a_training_job_leaves_by_a_checkpoint_when_a_load_needs_its_memory() -> None:
    backlog = (job(memory_bytes=75 * GB, checkpoint_s=2, step_ms=100),)
    fleet = fleet_of(spec(gpus=1, training=backlog), model())
    fleet.advance(150)  # in the step that ends at 200
    fleet.load("m", "n-0", [0])
    assert fleet.gpus["n-0/0"].allocated_bytes == 75 * GB
    (loaded,) = loads(fleet, 10_000)
    assert loaded.at_ms == pytest.approx(200 + 2000 + 1000, abs=0.01)
    assert fleet.gpus["n-0/0"].steps == 2
    assert fleet.gpus["n-0/0"].out_of_memory == 0


def test_a_job_that_a_larger_batch_leaves_no_room_goes_before_anybody_waits_for_it() -> None:
    backlog = (job(memory_bytes=60 * GB, checkpoint_s=1),)
    fleet = fleet_of(spec(gpus=1, training=backlog), model())
    name = resident(fleet, "m", batch=1)
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 500)
    fleet.set_batch(name, 15, 0, 1.0)
    fleet.set_concurrency(name, 100)
    fleet.advance(fleet.now_ms + 1100)
    began_ms = fleet.now_ms
    send(fleet, *[0.0] * 15)
    fleet.advance(began_ms + 100)
    # A switch, and no checkpoint.
    assert {at_ms - began_ms for _, at_ms in ended(fleet)} == {10.0 + 10 + 15}


def test_a_larger_batch_drives_training_out_rather_than_the_replica() -> None:
    backlog = (job(memory_bytes=60 * GB, checkpoint_s=1),)
    fleet = fleet_of(spec(gpus=1, training=backlog), model())
    name = resident(fleet, "m", batch=1)
    fleet.set_concurrency(name, 0)
    fleet.advance(fleet.now_ms + 500)
    assert fleet.gpus["n-0/0"].job == "train"  # 10 + 1 + 60 GB
    fleet.set_batch(name, 15, 20, 0.5)
    fleet.set_concurrency(name, 100)
    fleet.take_events()
    send(fleet, *[0.0] * 15)
    fleet.advance(fleet.now_ms + 3000)
    assert fleet.requests["batch_size"].tolist() == [15] * 15
    assert fleet.take_events() == []
    assert fleet.gpus["n-0/0"].job is None


# --- Faults ---------------------------------------------------------------------------------------


def test_a_node_that_fails_hands_back_its_requests_and_loses_steps_since_the_checkpoint() -> None:
    backlog = (job(step_ms=100, checkpoint_s=0, checkpoint_every_s=1, restore_s=0.5),)
    fleet = fleet_of(spec(gpus=2, nodes=2, training=backlog), model(alpha_ms=90, beta_ms=10))
    fleet.place("m", "n-0", [0])
    other = fleet.place("m", "n-1", [0])
    fleet.set_batch(other, 1, 0, 1.0)
    fleet.set_concurrency(other, 0)
    fleet.schedule([(1250, "fail", "n-0", 0), (2000, "revive", "n-0", 0)])
    send(fleet, 1200)
    fleet.advance(1249)
    busy_ms = fleet.gpus["n-0/1"].busy_training_ms
    assert busy_ms == 1200
    fleet.advance(1260)
    (gone,) = of_kind(fleet.take_events(), Gone)
    assert (gone.replica, gone.reason) == ("m@n-0:0", "failed")
    # Saved at 1000: two steps are lost, and one was under way.
    lost = fleet.gpus["n-0/1"]
    assert (lost.steps, lost.busy_training_ms) == (10, 1000)
    assert lost.training_ms == 1000
    assert fleet.jobs["steps_rolled_back"][0] == 2
    with pytest.raises(FleetError, match="n-0 is down"):
        fleet.load("m", "n-0", [1])
    assert fleet.models["queue"][0] == 1
    fleet.set_concurrency(other, 1)
    fleet.advance(1500)
    assert ended(fleet) == [(0, 1300 + 10 + 100)]  # after a step and a switch: its GPU trained
    assert fleet.down.tolist() == [True, True, False, False]
    fleet.advance(3000)
    back = fleet.gpus["n-0/1"]
    assert back.steps == 10 + 5  # 0.5 s to restore its state, then until 3000
    account = fleet.accounts()[1]
    assert account["down_ms"] == 750


def test_a_reclaim_gives_jobs_the_time_to_save_their_state() -> None:
    backlog = (job(step_ms=100, checkpoint_s=1),)
    fleet = fleet_of(spec(gpus=1, nodes=2, training=backlog), model())
    fleet.advance(1000)
    fleet.reclaim("n-0", notice_s=5)
    fleet.advance(7000)
    assert fleet.gpus["n-0/0"].steps == 11  # the one that ran was kept
    assert fleet.jobs["steps_rolled_back"][0] == 0
    assert fleet.down.tolist() == [True, False]


def test_time_before_the_window_does_not_change_what_comes_after() -> None:
    # The same fleet at epoch time: floats there are coarser, and must not matter.
    rng = np.random.default_rng(1)
    due_ms = np.sort(rng.uniform(0, 5000, 500))
    latencies = []
    for at_ms in (0.0, 1_800_000_000_000.0):
        fleet = FleetModel(spec(), [model()], at_ms)
        fleet.place("m", "n-0", [0])
        fleet.submit(Requests.of(at_ms + np.round(due_ms), np.zeros(500)))
        fleet.advance(at_ms + 10_000)
        latencies.append(fleet.latency_ms())
    assert np.array_equal(*latencies)
