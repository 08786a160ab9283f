"""The small cores: which commands pass, which offsets are done with, how long a loop took."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import ContractError
from services.executor.core.commands import Floor, admit, parse_id
from services.executor.core.loop_latency import PENDING_MAX, LoopLatency
from services.executor.core.offsets import Unfinished

ids = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 3))


@given(st.lists(st.one_of(ids, st.integers(0, 3)), max_size=60))
def test_whatever_comes_each_command_passes_once_and_epochs_never_go_back(
    heard: list[tuple[int, int, int] | int],
) -> None:
    floor = Floor()
    passed = []
    for one in heard:  # a number alone: a leader of this epoch was seen
        if isinstance(one, int):
            floor = floor.raised(one)
            continue
        before = floor
        floor, verdict = admit(floor, one)
        if verdict == "apply":
            assert one[0] >= before.epoch
            passed.append(one)
        else:
            assert floor == before
    assert passed == sorted(set(passed))


@given(st.lists(ids, unique=True).map(sorted))
def test_in_order_every_command_passes_and_again_none_does(
    commands: list[tuple[int, int, int]],
) -> None:
    floor = Floor()
    for one in commands:
        floor, verdict = admit(floor, one)
        assert verdict == "apply"
        assert admit(floor, one)[1] == "repeat"
    for one in commands:
        assert admit(floor, one)[1] != "apply"


def test_an_id_is_three_numbers() -> None:
    assert parse_id("12-3-45") == (12, 3, 45)
    for wrong in ("", "1-2", "1-2-3-4", "1-2-x", "1--2", "-1-2-3", "1-2-³"):
        with pytest.raises(ContractError, match="is not epoch-tick-position"):
            parse_id(wrong)


@given(st.integers(0, 1000), st.data())
def test_a_successor_begins_at_the_lowest_offset_not_done_with(
    first: int, data: st.DataObject
) -> None:
    unfinished = Unfinished()
    offsets = list(range(first, first + 12))
    for offset in offsets:
        assert unfinished.read(offset)
    done = data.draw(st.lists(st.sampled_from(offsets), unique=True))
    for offset in done:
        unfinished.done(offset)
    left = [offset for offset in offsets if offset not in done]
    assert unfinished.resume_from() == (left[0] if left else offsets[-1] + 1)
    assert len(unfinished) == len(left)
    assert not any(unfinished.read(offset) for offset in offsets)


def test_a_sample_has_one_latency_and_old_ones_are_let_go() -> None:
    loop = LoopLatency()
    for at_ms in range(0, 500, 100):
        loop.taken(at_ms)
    assert loop.covered(250, now_ms=400) == [400, 300, 200]
    assert loop.covered(250, now_ms=500) == []
    assert loop.covered(10_000, now_ms=600) == [300, 200]
    for at_ms in range(PENDING_MAX + 5):
        loop.taken(at_ms)
    assert len(loop.covered(10**9, now_ms=10**9)) == PENDING_MAX
