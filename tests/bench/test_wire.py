"""The yardsticks of `make wire` are what they claim to be, and its loads stand on their grids."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bench import gorilla
from bench.encodings import ENCODINGS
from bench.wire import check
from bench.wire_load import OF_HOST, PERIOD_MS, Recording, load_of, record
from libs.common import series
from libs.common.ports import HostReading

TICKS = 25


class Host:
    """A machine that counts, and has no network."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> HostReading:
        self.asked += 1
        return HostReading(self.asked * 0.17, 4, 1e9 + self.asked % 7 * 4096, 8e9, float("nan"))

    def disk_busy_s(self) -> float:
        return self.asked * 0.002


@pytest.fixture
def recording() -> Recording:
    return record(Host(), 60, wait=lambda _: None)


def as_paper(points: list[tuple[int, float]], start_ms: int) -> str:
    """Write one series' points as a string of 0 and 1, from the paper's text alone."""
    said, time, step, last, window = "", start_ms, 0, 0, None
    for at_ms, value in points:
        change = (at_ms - time) - step
        time, step = at_ms, at_ms - time
        if change == 0:
            said += "0"
        elif -63 <= change <= 64:
            said += "10" + f"{change + 63:07b}"
        elif -255 <= change <= 256:
            said += "110" + f"{change + 255:09b}"
        elif -2047 <= change <= 2048:
            said += "1110" + f"{change + 2047:012b}"
        else:
            said += "1111" + f"{change & 0xFFFFFFFF:032b}"
        (bits,) = struct.unpack(">Q", struct.pack(">d", value))
        differing = f"{bits ^ last:064b}"
        last = bits
        if "1" not in differing:
            said += "0"
            continue
        leading = min(31, differing.index("1"))
        end = differing.rindex("1") + 1
        if window and leading >= window[0] and end <= window[1]:
            said += "10" + differing[window[0] : window[1]]
            continue
        window = (leading, end)
        said += f"11{leading:05b}{(end - leading) % 64:06b}" + differing[leading:end]
    return said


VALUES = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 1.5, 100.0, 101.0, -0.0]))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 6000), VALUES), min_size=1, max_size=20),
    st.integers(0, 2**40),
)
def test_gorilla_writes_the_bits_of_the_paper(
    steps: list[tuple[int, float]], start_ms: int
) -> None:
    times = itertools.accumulate((step for step, _ in steps), initial=start_ms)
    points = list(zip(list(times)[1:], (value for _, value in steps), strict=True))
    state, told = gorilla.begin(1, start_ms), ""
    for n, (at_ms, value) in enumerate(points):
        out = np.zeros(gorilla.POINT_BYTES_MAX, np.uint8)
        size = gorilla.write_tick(state, at_ms, np.array([value]).view(np.int64), out)
        told += "".join(f"{byte:08b}" for byte in out[:size])
        expected = as_paper(points[: n + 1], start_ms)
        assert expected.startswith(as_paper(points[:n], start_ms))
        new = expected[len(as_paper(points[:n], start_ms)) :]
        assert told[-8 * size :] == new.ljust(8 * size, "0")


@settings(deadline=None)
@given(
    hnp.arrays(np.float64, (7, 5), elements=st.floats(width=64)),
    st.lists(st.integers(0, 100_000), min_size=7, max_size=7),
)
def test_gorilla_comes_back_bit_for_bit(rows: np.ndarray, steps: list[int]) -> None:
    writer = gorilla.begin(5, 1000)
    reader, at_ms = writer.copy(), 1000
    for row, step in zip(rows.view(np.int64), steps, strict=True):
        at_ms += step
        out, got = np.zeros(5 * gorilla.POINT_BYTES_MAX, np.uint8), np.empty(5, np.int64)
        size = gorilla.write_tick(writer, at_ms, row, out)
        gorilla.read_tick(reader, out[:size].copy(), got)
        np.testing.assert_array_equal(got, row)
        assert set(reader[:, gorilla.TIME]) == {at_ms}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("count", [1, 8, 100])
def test_every_encoding_gives_back_what_it_was_given(
    name: str, count: int, recording: Recording
) -> None:
    assert check(name, load_of(recording, count, TICKS, seed=3)) > 0


def test_what_the_host_does_not_tell_is_left_out(recording: Recording) -> None:
    assert recording.metrics == tuple(m for m in OF_HOST if m != series.HOST_NETWORK_BYTES)
    assert recording.rows.shape == (60, 5)


def test_a_load_is_the_same_for_the_same_seed_and_stands_on_its_grid(recording: Recording) -> None:
    load, again = (load_of(recording, 40, TICKS, seed=3) for _ in range(2))
    np.testing.assert_array_equal(load.rows, again.rows)
    assert load.layout == again.layout
    for one, column in zip(load.layout.series, load.rows.T, strict=True):
        steps = column / one.resolution
        np.testing.assert_allclose(steps, np.rint(steps), rtol=1e-12)
    assert np.diff(load.at_ms).tolist() == [PERIOD_MS] * (TICKS - 1)
    metrics = [one.metric for one in load.layout.series]
    assert metrics == sorted(metrics)
    assert len(set(load.names)) == 40


def test_no_two_nodes_play_the_same(recording: Recording) -> None:
    load = load_of(recording, 200, TICKS, seed=3, host_share=1.0)
    of_cpu = [
        column.tobytes()
        for one, column in zip(load.layout.series, load.rows.T, strict=True)
        if one.metric == series.HOST_CPU_BUSY_S
    ]
    assert len(set(of_cpu)) == len(of_cpu) == 40
