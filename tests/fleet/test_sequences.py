"""The engine of an LLM replica against a plain one, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import ITERATION_SHARE
from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from tests.fleet.naive_engine import Sequence, serve
from tests.fleet.worlds import llm, spec

LAW = {"base_ms": 4.0, "prefill_token_ms": 0.125, "decode_seq_ms": 0.5, "kv_token_ms": 0.0078125}


def fleet_of(kv_tokens: int, most: int, tpot_ms: float) -> FleetModel:
    served = llm(law=LAW, kv_tokens=kv_tokens, batch_max=most, tpot_ms=tpot_ms)
    fleet = FleetModel(spec(gpus=1), [served])
    fleet.place("m", "n-0", [0])
    return fleet


def play(fleet: FleetModel, sequences: list[Sequence], block_tokens: int = 512) -> None:
    blocks = [block for one in sequences for block in one.blocks]
    offsets = np.cumsum([0, *(len(one.blocks) for one in sequences)])
    fleet.submit(
        Requests.of(
            [one.due_ms for one in sequences],
            [0] * len(sequences),
            [one.prompt for one in sequences],
            [one.output for one in sequences],
            block_offsets=offsets if blocks else None,
            blocks=blocks or None,
            block_tokens=block_tokens,
        )
    )
    fleet.advance(1e7)


def test_a_request_alone_takes_its_prompt_in_chunks_and_then_a_decode_a_token() -> None:
    fleet = fleet_of(10_000, 4, tpot_ms=20.0)  # so an iteration lasts 18 ms at most
    play(fleet, [Sequence(5.0, 200, 3)])
    # (18 - 4) / 0.125 = 112 tokens a chunk: 18 ms, then 88 tokens: 15 ms.
    first_ms = 5 + 18 + (4 + 88 * 0.125)
    assert fleet.requests["first_ms"][0] == pytest.approx(first_ms)
    decodes_ms = sum(4 + 0.5 + 0.0078125 * (200 + j) for j in (1, 2))
    assert fleet.requests["ended_ms"][0] == pytest.approx(first_ms + decodes_ms)
    assert fleet.tpot_ms()[0] == pytest.approx(decodes_ms / 2)
    (law,) = fleet.work()[0]
    assert (law["done_prefill_tokens"], law["done_decodes"]) == (200, 2)
    assert law["done_kv_reads"] == 201 + 202


requests = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 400), st.integers(1, 60)), min_size=1, max_size=25
)


@settings(max_examples=200, deadline=None)
@given(requests, st.sampled_from([450, 700, 5000]), st.sampled_from([1, 3, 20]))
def test_it_serves_as_a_plain_engine_does(
    wishes: list[tuple[int, int, int]], kv_tokens: int, most: int
) -> None:
    wishes.sort()
    plain = [Sequence(float(due), prompt, output) for due, prompt, output in wishes]
    serve(plain, llm(law=LAW).law["gpu"], ITERATION_SHARE * 25.0, kv_tokens, most)  # type: ignore[arg-type]
    fleet = fleet_of(kv_tokens, most, 25.0)
    play(fleet, [Sequence(float(due), prompt, output) for due, prompt, output in wishes])
    table = fleet.requests
    assert table["preemptions"].tolist() == [one.preemptions for one in plain]
    assert table["first_ms"] == pytest.approx(np.array([one.first_ms for one in plain]))
    assert table["ended_ms"] == pytest.approx(np.array([one.ended_ms for one in plain]))
    record = fleet.models[0]
    assert record["ok"] + record["late"] == len(wishes)
    assert record["queue"] == record["in_flight"] == 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 3), st.integers(0, 6), st.integers(1, 20)),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([150, 300, 2000]),
)
def test_a_prompt_seen_before_is_computed_only_where_it_is_new(
    wishes: list[tuple[int, int, int, int]], kv_tokens: int
) -> None:
    size = 16

    def made() -> list[Sequence]:
        # Conversations 0 to 3, each a chain of blocks that later prompts share to some depth.
        return [
            Sequence(float(due), depth * size + 5, output, [10 * talk + k for k in range(depth)])
            for due, talk, depth, output in sorted(wishes)
        ]

    plain, ours = made(), made()
    law = llm(law=LAW).law["gpu"]
    serve(plain, law, ITERATION_SHARE * 25.0, kv_tokens, 4, size)  # type: ignore[arg-type]
    fleet = fleet_of(kv_tokens, 4, 25.0)
    play(fleet, ours, size)
    assert fleet.requests["cached_tokens"].tolist() == [one.cached for one in plain]
    assert fleet.requests["ended_ms"] == pytest.approx(np.array([one.ended_ms for one in plain]))


def test_no_iteration_is_longer_than_its_share_of_the_objective() -> None:
    fleet = fleet_of(3000, 64, tpot_ms=25.0)
    rng = np.random.default_rng(5)
    wishes = [
        Sequence(float(due), int(prompt), 20)
        for due, prompt in zip(
            np.sort(rng.uniform(0, 3000, 200)), rng.integers(10, 1500, 200), strict=True
        )
    ]
    play(fleet, wishes)
    # As long as decodes alone fit: these do, at most 3000 tokens of context and 64 sequences.
    law = fleet.laws[0, 0]
    longest_ms = ITERATION_SHARE * 25.0
    assert law["iteration_ms"] / law["iterations"] <= longest_ms
    assert fleet.accounts()["wasted_ms"][0] >= 0


def test_a_prompt_that_no_pool_holds_is_rejected_at_once() -> None:
    fleet = fleet_of(100, 4, 25.0)
    play(fleet, [Sequence(1.0, 100, 5), Sequence(2.0, 99, 5)])
    assert fleet.requests["status"].tolist() == [3, 2]  # rejected; cut short after one token
    assert fleet.models["rejected"][0] == 1
