import gzip
from pathlib import Path

import numpy as np
import pytest

from libs.common.errors import ContractError
from services.load.core.arrivals import Arrivals, merge, superpose
from services.load.core.traces import parse
from services.load.trace_file import read_trace

ROWS = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:16:51.0000000,12,1\n"
)
FOREVER_MS = 1e12


def trace_of(*at_ms: float) -> Arrivals:
    tokens = np.arange(len(at_ms))
    return Arrivals(np.array(at_ms), tokens, 10 * tokens)


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_plain_and_zipped_files_read_alike(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(ROWS.encode()) if name.endswith("gz") else ROWS.encode())
    trace = read_trace(path, FOREVER_MS)
    np.testing.assert_allclose(trace.at_ms, [0.0, 4314.579, 64319.41], atol=1e-6)
    assert trace.prompt_tokens.tolist() == [374, 396, 12]
    assert trace.output_tokens.tolist() == [44, 109, 1]


def test_the_later_files_with_a_zone_read_too() -> None:
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens", "2024-05-10 00:00:00.009930+00:00,2,3"]
    assert parse(lines, "t", FOREVER_MS).prompt_tokens.tolist() == [2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,tokens\n1,2\n", "trace.csv:1: .*found time,tokens"),
        ("", "found nothing"),
        (ROWS.splitlines()[0], "no request"),
        (ROWS + "yesterday,1,2\n", "trace.csv:5: "),
        (ROWS + "2023-11-16 18:16:52.0,1\n", "trace.csv:5: "),
        (ROWS + "2023-11-16 18:16:52.0,1,-2\n", "trace.csv:5: "),
        (ROWS + "2023-11-16 18:00:00.0,1,2\n", "trace.csv:5: out of order of time"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_in_one_line(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(ContractError, match=said) as refusal:
        read_trace(path, FOREVER_MS)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("made", [None, "folder", b"\x1f\x8b\x08 broken", b"\xff\xfe no text"])
def test_a_file_that_cannot_be_opened_says_which_columns_were_expected(
    tmp_path: Path, made: str | bytes | None
) -> None:
    path = tmp_path / ("trace.csv.gz" if made and made[0] == 0x1F else "trace.csv")
    if made == "folder":
        path.mkdir()
    elif isinstance(made, bytes):
        path.write_bytes(made)
    with pytest.raises(ContractError, match="TIMESTAMP,ContextTokens,GeneratedTokens"):
        read_trace(path, FOREVER_MS)


def test_no_more_of_a_file_is_read_than_the_load_needs() -> None:
    rows = (f"2023-11-16 18:{i // 60:02}:{i % 60:02}.0,1,1" for i in range(3_000))
    lines = iter(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, "broken"])
    assert parse(lines, "t", 1000.0).at_ms[-1] >= 1000
    assert "broken" in lines


def test_one_copy_plays_the_trace_as_it_was_published() -> None:
    trace = trace_of(0.0, 500.0, 900.0, 2_000.0)
    played = superpose(trace, 1, 1_000.0, np.random.default_rng(1))
    assert played.at_ms.tolist() == [0.0, 500.0, 900.0]


def test_copies_add_users_and_do_not_squeeze_time() -> None:
    trace = trace_of(*np.arange(0.0, 180_000.0, 100.0))
    played = superpose(trace, 3, 60_000.0, np.random.default_rng(7))
    assert len(played.at_ms) == pytest.approx(3 * 600, abs=3)
    assert (np.diff(played.at_ms) >= 0).all()
    again = superpose(trace, 3, 60_000.0, np.random.default_rng(7))
    np.testing.assert_array_equal(played.at_ms, again.at_ms)
    # Each request keeps the lengths that it had.
    np.testing.assert_array_equal(played.output_tokens, 10 * played.prompt_tokens)


def test_merging_keeps_every_request_in_due_order() -> None:
    plan = merge({"a": trace_of(1.0, 5.0), "b": trace_of(0.0, 5.0, 9.0)})
    assert plan.at_ms.tolist() == [0.0, 1.0, 5.0, 5.0, 9.0]
    assert [plan.models[m] for m in plan.model] == ["b", "a", "a", "b", "b"]
