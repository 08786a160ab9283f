"""Ticks there and back: what is sent is the value at its resolution, or nothing, never another."""

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from libs.common import plimsoll_pb2 as pb
from libs.common import ticks
from libs.common.errors import ContractError
from libs.common.messages import AppSamples
from libs.common.ticks import CODED_FROM, KEY_EVERY, Chains, Coder, Wait
from libs.common.wire import layout_of

Floats = npt.NDArray[np.float64]

MANY = 40
PERIOD_MS = 100
RESOLUTIONS = (1.0, 0.01, 0.001, 1024.0, 0.0, 0.25, 0.3)


def layout(count: int = MANY, source: str = "router/0", resolution: float = 1.0) -> pb.Layout:
    return layout_of(
        source,
        [pb.Series(metric=f"m{n}", model="chat", resolution=resolution) for n in range(count)],
    )


def run(coder: Coder, rows: Floats, begun_ms: int = 1000) -> list[pb.Tick]:
    """Send rows, (ticks, series), and return the ticks as they come off the wire."""
    sent = [
        coder.encode(row, begun_ms + PERIOD_MS * n, begun_ms + PERIOD_MS * (n + 3))
        for n, row in enumerate(rows)
    ]
    return [pb.Tick.FromString(tick.SerializeToString()) for tick in sent]


def random_walk(count: int = 35, series: int = MANY, seed: int = 1) -> Floats:
    steps = np.random.default_rng(seed).integers(-300, 300, (count, series))
    return 1e9 + np.cumsum(steps, axis=0).astype(np.float64)


# --- What comes back ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_comes_back_is_each_value_rounded_to_its_resolution(data: st.DataObject) -> None:
    count = data.draw(st.integers(CODED_FROM, CODED_FROM + 20))
    resolutions = data.draw(
        st.lists(st.sampled_from(RESOLUTIONS), min_size=count, max_size=count), label="resolution"
    )
    value = st.one_of(
        st.floats(-1e5, 1e5), st.integers(-(2**40), 2**40).map(float), st.just(np.nan)
    )
    rows = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 14)), count), elements=value))
    made = layout_of("s", [pb.Series(metric="m", resolution=one) for one in resolutions])
    chains = Chains()
    for tick, row in zip(run(Coder(made), rows), rows, strict=True):
        got = chains.read(tick, made)
        assert not isinstance(got, Wait)
        for resolution, before, after in zip(resolutions, row, got, strict=True):
            if np.isnan(before):
                assert np.isnan(after), "missing is not zero"
            elif resolution == 0:
                assert np.float64(before).tobytes() == after.tobytes()
            else:
                step = round(after / resolution)
                assert abs(before / resolution - step) <= 0.5 + 1e-6
                assert after == pytest.approx(step * resolution, rel=1e-15)


def test_a_value_on_a_decimal_grid_comes_back_as_the_same_float64() -> None:
    made = layout(resolution=0.001)
    row = np.arange(MANY) * 0.007
    row = np.array([float(f"{value:.3f}") for value in row])
    (tick,) = run(Coder(made), row[None])
    np.testing.assert_array_equal(Chains().read(tick, made), row)


def test_a_tick_of_thousands_of_series_of_all_resolutions_comes_back() -> None:
    resolutions = np.resize(RESOLUTIONS, 2500)
    made = layout_of("s", [pb.Series(metric="m", resolution=one) for one in resolutions.tolist()])
    rng = np.random.default_rng(5)
    walk = 10.0 ** rng.uniform(0, 9, 2500) + np.cumsum(rng.normal(0, 300, (12, 2500)), axis=0)
    chains = Chains()
    for tick, row in zip(run(Coder(made), walk), walk, strict=True):
        got = chains.read(tick, made)
        assert not isinstance(got, Wait)
        assert (got[resolutions == 0] == row[resolutions == 0]).all()
        # A double holds 15 digits: beside half a step, it may be off by the last of them.
        allowed = resolutions / 2 + 1e-15 * abs(row)
        assert (abs(got - row) <= allowed)[resolutions > 0].all()


def test_counters_up_to_two_to_the_53_come_back_exactly() -> None:
    made = layout()
    rows = np.array([[2.0**53] * MANY, [-(2.0**53)] * MANY, [16_777_217.0] * MANY])
    chains = Chains()
    for tick, row in zip(run(Coder(made), rows), rows, strict=True):
        np.testing.assert_array_equal(chains.read(tick, made), row)


def test_values_without_a_resolution_keep_all_their_bits() -> None:
    made = layout(resolution=0)
    row = np.resize([np.pi, -0.0, 5e-324, 1.7976931348623157e308, -1e-300, np.nan], MANY)
    rows = np.stack([row, -row, row[::-1]])
    chains = Chains()
    for tick, sent in zip(run(Coder(made), rows), rows, strict=True):
        got = chains.read(tick, made)
        np.testing.assert_array_equal(got, sent)
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(sent[sent == 0]))


def test_a_small_tick_stands_alone_with_float64_columns() -> None:
    made = layout(3)
    values = np.array([2.0**53, 16_777_217.0, np.nan])
    ticks_of_run = run(Coder(made), np.stack([values, values]))
    assert [tick.WhichOneof("values") for tick in ticks_of_run] == ["floats", "floats"]
    assert [tick.sequence for tick in ticks_of_run] == [1, 2]
    np.testing.assert_array_equal(Chains().read(ticks_of_run[1], made), values)


def test_the_message_of_one_sample_is_less_than_two_fifths_of_json() -> None:
    made = layout_of("gpu/n1", [pb.Series(metric="gpu_utilization_ratio", resolution=0.01)])
    at_ms = 1_800_000_000_000
    json = b'{"timestamp":1800000000000,"name":"gpu_utilization_ratio","value":0.37,"unit":"ratio"}'
    tick = Coder(made).encode(np.array([0.37]), at_ms, at_ms + 300)
    assert len(tick.SerializeToString()) <= 0.4 * len(json)


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, MANY])
@pytest.mark.parametrize("resolution", [1.0, 0.0])
def test_an_infinite_value_is_refused_and_named_and_harms_no_later_tick(
    count: int, resolution: float
) -> None:
    made = layout(count, resolution=resolution)
    coder, chains = Coder(made), Chains()
    rows = random_walk(3, count)
    for at_ms, row in enumerate(rows):
        bad = row.copy()
        bad[1] = -np.inf
        with pytest.raises(ContractError, match="m1 is infinite"):
            coder.encode(bad, at_ms, at_ms)
        np.testing.assert_array_equal(chains.read(coder.encode(row, at_ms, at_ms), made), row)


@pytest.mark.parametrize("value", [9.1e12, -1e300, 1.7976931348623157e308])
def test_a_value_beyond_what_its_resolution_can_count_is_refused_and_named(value: float) -> None:
    row = np.zeros(MANY)
    row[7] = value
    with pytest.raises(ContractError, match=r"m7: .* is more than 2\^53 steps of 0.001"):
        Coder(layout(resolution=0.001)).encode(row, 1, 2)


@pytest.mark.parametrize("resolution", [-1.0, np.nan, np.inf, 1e-300, 1e300])
def test_a_resolution_that_is_none_is_refused_by_both_sides(resolution: float) -> None:
    wrong = layout(resolution=resolution)
    with pytest.raises(ContractError, match="m0: a resolution of"):
        Coder(wrong)
    with pytest.raises(ContractError, match="m0: a resolution of"):
        Chains().read(pb.Tick(key=b"x"), wrong)


def test_a_tick_that_does_not_fit_its_layout_is_refused() -> None:
    small = ticks.floats(layout(2), np.zeros(2), 1, 2)
    with pytest.raises(ContractError, match="16 bytes of values, but layout"):
        Chains().read(small, layout(3))
    with pytest.raises(ContractError, match="without values"):
        Chains().read(pb.Tick(), layout(3))
    (large,) = run(Coder(layout(MANY)), random_walk(1))
    with pytest.raises(ContractError, match="bytes"):
        Chains().read(large, layout(MANY + 1))


def test_an_infinite_value_that_was_sent_is_refused_and_named() -> None:
    tick = ticks.floats(layout(3), np.zeros(3), 1, 2)
    tick.floats = np.array([0.0, np.inf, 0.0]).tobytes()
    with pytest.raises(ContractError, match="m1 is infinite"):
        Chains().read(tick, layout(3))


def test_a_frame_that_claims_to_be_huge_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    with pytest.raises(ContractError, match="50000000 bytes"):
        Chains().read(pb.Tick(key=bomb), layout())


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_values_or_a_contract_error(data: bytes, compressed: bool) -> None:
    made = layout(resolution=0)
    block = zstandard.ZstdCompressor().compress(data) if compressed else data
    try:
        values = Chains().read(pb.Tick(key=block), made)
    except ContractError:
        return
    assert not isinstance(values, Wait)
    assert len(values) == MANY
    assert not np.isinf(values).any()


# --- What is lost, repeated, or begun anew --------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_whatever_is_lost_repeated_or_restarted_no_wrong_value_is_ever_read(
    data: st.DataObject,
) -> None:
    """Up to three runs of a source; records are dropped, and the log is read again from marks."""
    made = layout()
    log: list[tuple[pb.Tick, Floats]] = []
    for begun in range(data.draw(st.integers(1, 3))):
        count = data.draw(st.integers(1, 25))
        rows = random_walk(count, seed=begun)
        log += zip(run(Coder(made), rows, begun_ms=10_000 * begun), rows, strict=True)
    kept = [one for one in log if data.draw(st.integers(0, 9)) < 8]
    chains = Chains()
    at, jumps = 0, data.draw(st.integers(0, 3))
    while at < len(kept):
        tick, row = kept[at]
        values = chains.read(tick, made)
        if not isinstance(values, Wait):
            np.testing.assert_array_equal(values, row)
        elif tick.HasField("key"):
            raise AssertionError("a key can always be read")
        at += 1
        if jumps and data.draw(st.integers(0, 5)) == 0:
            jumps -= 1
            at = data.draw(st.integers(0, at))


def test_a_reader_that_joins_in_the_middle_waits_for_the_next_key() -> None:
    made, rows = layout(), random_walk()
    for first in range(1, KEY_EVERY + 1):
        chains = Chains()
        got = [chains.read(tick, made) for tick in run(Coder(made), rows)[first:]]
        waited = [value for value in got if isinstance(value, Wait)]
        assert waited == [Wait.JOINED] * (KEY_EVERY - first)
        assert len(waited) * PERIOD_MS < 1000
        np.testing.assert_array_equal(got[len(waited)], rows[KEY_EVERY])


def test_after_a_skipped_tick_deltas_wait_for_the_next_key() -> None:
    made, rows = layout(), random_walk()
    sent = run(Coder(made), rows)
    chains = Chains()
    got = [chains.read(tick, made) for tick in sent[:3] + sent[4:]]
    assert [isinstance(one, Wait) for one in got[:11]] == [False] * 3 + [True] * 6 + [False] * 2
    assert set(got[3:9]) == {Wait.GAP}
    np.testing.assert_array_equal(got[9], rows[10])


def test_a_record_that_comes_twice_is_told_and_breaks_nothing() -> None:
    made, rows = layout(), random_walk(5)
    sent = run(Coder(made), rows)
    chains = Chains()
    got = [chains.read(sent[n], made) for n in (0, 1, 2, 1, 2, 3, 4)]
    assert got[3:5] == [Wait.REPEATED] * 2
    np.testing.assert_array_equal(got[6], rows[4])


def test_a_sender_that_starts_again_sends_a_key_at_once() -> None:
    made, rows = layout(), random_walk(4)
    chains = Chains()
    before, after = run(Coder(made), rows, begun_ms=1), run(Coder(made), rows + 7, begun_ms=2)
    for tick, row in zip(before[:2] + after, [*rows[:2], *(rows + 7)], strict=True):
        np.testing.assert_array_equal(chains.read(tick, made), row)
    assert chains.read(before[2], made) is Wait.JOINED, "a delta of the run before"


def test_a_delta_of_a_new_run_whose_key_was_lost_is_not_added_to_the_old_run() -> None:
    made, rows = layout(), random_walk(4)
    chains = Chains()
    before, after = run(Coder(made), rows, begun_ms=1), run(Coder(made), rows + 7, begun_ms=2)
    chains.read(before[0], made)
    assert after[1].sequence == before[0].sequence + 1
    assert chains.read(after[1], made) is Wait.JOINED


def test_sources_and_layouts_do_not_mix() -> None:
    one, other, rows = layout(), layout(source="router/1"), random_walk(6)
    chains = Chains()
    for a, b, row in zip(run(Coder(one), rows), run(Coder(other), -rows), rows, strict=True):
        np.testing.assert_array_equal(chains.read(a, one), row)
        np.testing.assert_array_equal(chains.read(b, other), -row)
    wider = layout(MANY + 1)
    key, delta = run(Coder(wider), random_walk(2, MANY + 1))
    assert chains.read(delta, wider) is Wait.JOINED
    assert not isinstance(chains.read(key, wider), Wait)
    assert not isinstance(chains.read(delta, wider), Wait)


def test_of_too_many_series_the_source_heard_longest_ago_is_forgotten() -> None:
    made = [layout(source=f"s{n}") for n in range(4)]
    sent = [run(Coder(one), random_walk(4)) for one in made]
    chains = Chains(series_max=3 * MANY)
    for n in (0, 1, 2):
        chains.read(sent[n][0], made[n])
    chains.read(sent[0][1], made[0])
    chains.read(sent[3][0], made[3])
    assert chains.read(sent[1][1], made[1]) is Wait.JOINED
    for n, tick in ((0, 2), (2, 1), (3, 1)):
        assert not isinstance(chains.read(sent[n][tick], made[n]), Wait)


def test_a_tick_that_cannot_be_read_is_a_gap_to_those_behind_it() -> None:
    made, rows = layout(), random_walk(12)
    sent = run(Coder(made), rows)
    sent[2].delta = zstandard.ZstdCompressor().compress(b"\x01")
    chains = Chains()
    chains.read(sent[0], made)
    chains.read(sent[1], made)
    with pytest.raises(ContractError):
        chains.read(sent[2], made)
    assert chains.read(sent[3], made) is Wait.GAP
    np.testing.assert_array_equal(chains.read(sent[10], made), rows[10])


# --- Samples of apps ------------------------------------------------------------------------------


def test_samples_of_an_app_become_a_tick() -> None:
    samples = AppSamples.model_validate(
        {
            "source": "shop",
            "at_ms": 5,
            "next_by_ms": 6,
            "samples": [{"metric": "arrivals_total", "kind": "counter", "model": "m", "value": 2}],
        }
    )
    made, tick = ticks.tick_of_app_samples(samples)
    assert made.series[0].kind == pb.Series.COUNTER
    assert made.source == "shop"
    assert ticks.layout_id(tick) == made.layout_id
    assert Chains().read(tick, made) == [2.0]
    assert (tick.at_ms, tick.holds_ms) == (5, 1)


def test_a_sample_of_neither_model_nor_node_is_refused() -> None:
    samples = AppSamples.model_validate(
        {"source": "s", "at_ms": 5, "next_by_ms": 6, "samples": [{"metric": "x", "value": 2}]}
    )
    with pytest.raises(ContractError, match="x: neither model nor node"):
        ticks.tick_of_app_samples(samples)
