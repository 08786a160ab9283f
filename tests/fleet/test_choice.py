"""The router's law: predictions by hand, first fit, and that nobody sees an answer's length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.fleet.choice import predicted_batch_ms
from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from tests.fleet.worlds import fleet_of, llm, model, spec


@pytest.mark.parametrize(
    ("size", "waiting", "waited_ms", "free_in_ms", "wait_ms", "ends_in_ms"),
    [
        (1, 0, 0, 0, 50, 11),  # a batch of one is full
        (4, 0, 0, 0, 50, 50 + 11),  # alone it waits for company
        (4, 0, 0, 80, 50, 80 + 11),  # while the GPU is busy, waiting costs nothing
        (4, 1, 30, 0, 50, 20 + 12),  # the oldest has waited for a part of it
        (4, 3, 30, 0, 50, 14),  # it fills the batch
        (4, 4, 30, 0, 50, 50 + 11),  # behind a full batch of 14 ms
        (4, 9, 30, 5, 0, 5 + 2 * 14 + 12),
    ],
)
def test_a_prediction_is_rest_plus_batches_ahead_plus_the_own_batch(
    size: int,
    waiting: int,
    waited_ms: float,
    free_in_ms: float,
    wait_ms: float,
    ends_in_ms: float,
) -> None:
    seen = predicted_batch_ms(size, waiting, waited_ms, free_in_ms, wait_ms, 10.0, 1.0)
    assert seen == pytest.approx(ends_in_ms)


@given(
    st.integers(1, 16), st.integers(0, 60), st.floats(0, 50), st.floats(0, 500), st.floats(0, 50)
)
def test_more_work_ahead_never_shortens_a_prediction_by_more_than_the_wait(
    size: int, waiting: int, waited_ms: float, free_in_ms: float, wait_ms: float
) -> None:
    def seen(waiting: int, free_in_ms: float) -> float:
        waited = min(waited_ms, wait_ms)
        return predicted_batch_ms(size, waiting, waited, free_in_ms, wait_ms, 10.0, 1.0)

    now_ms = seen(waiting, free_in_ms)
    assert now_ms >= free_in_ms + 11 or size > 1
    assert seen(waiting, free_in_ms + 7) >= now_ms
    # One more may fill a batch that was to wait, and so end sooner.
    assert seen(waiting + 1, free_in_ms) >= now_ms - wait_ms


def used(fleet: FleetModel) -> list[str]:
    return [fleet.replica_names[number] for number in fleet.requests["replica"]]


def llm_fleet(replicas: int, **given: object) -> FleetModel:
    fleet = fleet_of(spec(gpus=replicas), llm(**given))
    for gpu in range(replicas):
        fleet.place("m", "n-0", [gpu])
    return fleet


def test_prompts_pack_on_the_first_replica_until_the_first_token_would_be_late() -> None:
    fleet = llm_fleet(2, ttft_ms=200)
    # A chunk of (23.75 - 8) / 0.035 = 450 tokens an iteration of 23.75 ms: of 140 ms, theta times
    # the objective, 5.4 iterations may be ahead, so 2,400 tokens. One token each: none moves on.
    fleet.submit(Requests.of([0] * 4, [0] * 4, [1000, 1000, 1000, 1000], [1] * 4))
    fleet.advance(1000)
    assert used(fleet) == ["m@n-0:0", "m@n-0:0", "m@n-0:1", "m@n-0:1"]


def test_decodes_that_would_outgrow_the_iteration_go_to_the_next_replica() -> None:
    # Of 23.75 ms, 95 % less 8 leave 14 sequences at 1 ms each.
    fleet = llm_fleet(2, law={"decode_seq_ms": 1.0, "kv_token_ms": 0.0})
    fleet.submit(Requests.of(np.arange(20.0), [0] * 20, [1] * 20, [500] * 20))
    fleet.advance(30)
    assert used(fleet).count("m@n-0:0") == 14


def test_a_cached_prefix_makes_a_replica_fit_that_would_not() -> None:
    def second_goes_to(blocks: list[int]) -> str:
        fleet = llm_fleet(2, ttft_ms=200)
        offsets = [0, 4, 4 + len(blocks)]
        requests = Requests.of(
            [0, 1000], [0, 0], [2049, 3000], [5, 5],
            block_offsets=offsets, blocks=[1, 2, 3, 4, *blocks],
        )  # fmt: skip
        fleet.submit(requests)
        fleet.set_order("m", ["m@n-0:0", "m@n-0:1"])
        fleet.set_concurrency("m@n-0:1", 0)
        fleet.advance(999)
        fleet.set_concurrency("m@n-0:1", 9)
        fleet.advance(2000)
        assert fleet.requests["cached_tokens"][1] == (2048 if blocks else 0)
        return used(fleet)[1]

    # 3,000 tokens take 7 iterations: late on either, and the first is as good; 952 are in time.
    assert second_goes_to([1, 2, 3, 4]) == "m@n-0:0"


def test_the_shortest_queue_is_joined_where_so_ordered() -> None:
    fleet = fleet_of(spec(gpus=3), model())
    for gpu in range(3):
        fleet.set_batch(fleet.place("m", "n-0", [gpu]), 1, 0, 1.0)
    fleet.set_router("m", "jsq")
    fleet.submit(Requests.of(np.zeros(7), np.zeros(7)))
    fleet.advance(100)
    assert [used(fleet).count(name) for name in fleet.replicas] == [3, 2, 2]


@given(st.integers(0, 2**32 - 1))
def test_no_choice_depends_on_the_length_of_an_answer_before_its_last_token(seed: int) -> None:
    rng = np.random.default_rng(seed)
    due_ms = np.sort(rng.uniform(0, 300, 20))
    prompt = rng.integers(1, 2000, 20)
    used_by = []
    for length in (400, 900):  # none ends before 400 iterations, of 8 ms at least
        fleet = llm_fleet(3, kv_tokens=6000)
        fleet.submit(Requests.of(due_ms, np.zeros(20), prompt, np.full(20, length)))
        fleet.advance(3000)
        used_by.append((used(fleet), fleet.requests["first_ms"].tolist()))
    assert used_by[0] == used_by[1]
