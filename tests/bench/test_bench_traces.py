from pathlib import Path

import numpy as np
import pytest

from bench.traces import Drawn, load_of, trace_option
from libs.common.errors import ContractError, SettingError

HOUR_MS = 3.6e6


def trace(folder: Path, seconds: int) -> Path:
    path = folder / "trace.csv"
    rows = "".join(f"{s},chat,100,10\n" for s in range(seconds))
    path.write_text("arrival_s,model,prompt_tokens,output_tokens\n" + rows)
    return path


def test_everything_runs_without_a_file_and_says_synthetic() -> None:
    load = load_of("chat", Drawn(5.0), 2, HOUR_MS, seed=1)
    assert load.arrivals.label == "synthetic"
    assert len(load.arrivals.at_ms) == pytest.approx(2 * 5 * 3600, rel=0.15)
    assert load.arrivals.output_tokens.min() >= 1
    assert load.ends_ms == HOUR_MS


def test_a_model_may_be_drawn_like_another() -> None:
    load = load_of("assistant", Drawn(5.0, like="chat"), 1, HOUR_MS, seed=1)
    assert load.arrivals.prompt_tokens.min() >= 1


def test_each_model_has_its_own_stream_and_a_seed_repeats_it() -> None:
    one, two, other, later = (
        load_of(model, Drawn(5.0, like="chat"), 1, HOUR_MS, seed).arrivals.at_ms
        for model, seed in (("a", 1), ("a", 1), ("b", 1), ("a", 2))
    )
    np.testing.assert_array_equal(one, two)
    assert one[:3].tolist() != other[:3].tolist()
    assert one[:3].tolist() != later[:3].tolist()


def test_a_run_ends_where_all_copies_of_a_shorter_trace_still_play(tmp_path: Path) -> None:
    path = trace(tmp_path, 300)
    assert load_of("chat", path, 1, HOUR_MS, 0).ends_ms == 299_000
    load = load_of("chat", path, 4, HOUR_MS, 0)
    assert load.ends_ms == 239_000
    counts, _ = np.histogram(load.arrivals.at_ms, bins=[0, 60_000, 179_000, 239_000])
    assert counts.tolist() == pytest.approx([240, 476, 240], abs=6)
    assert load_of("chat", path, 4, 100_000.0, 0).ends_ms == 100_000


def test_a_trace_that_is_wrong_says_where(tmp_path: Path) -> None:
    path = trace(tmp_path, 3)
    path.write_text(path.read_text() + "1,chat,1,1\n")
    with pytest.raises(ContractError, match=r"trace.csv:5: out of order"):
        load_of("chat", path, 1, HOUR_MS, 0)


def test_the_option_names_a_model_and_a_file() -> None:
    assert trace_option("chat=a=b.csv") == ("chat", Path("a=b.csv"))
    with pytest.raises(SettingError, match="expected model=FILE"):
        trace_option("trace.csv")
