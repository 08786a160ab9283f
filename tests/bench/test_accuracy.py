"""The accuracy bench: what it reads, how it scores, and what it leaves behind."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.accuracy.crane import fit
from bench.accuracy.judge import (
    HORIZONS,
    METHODS,
    ORIGINS,
    Row,
    case_of,
    common,
    coverage,
    judge_online,
)
from bench.accuracy.kept import judge_batch
from bench.accuracy.online import dynamo_kalman, last_value
from bench.accuracy.series import Series, filled, read, read_all, season_of
from libs.common.errors import ContractError


def written(path: Path, values: list[float], step_s: int = 300) -> Path:
    begin = np.datetime64("2026-01-01T00:00:00")
    path.parent.mkdir(exist_ok=True)
    rows = [f"{begin + i * step_s},{v}".replace("T", " ") for i, v in enumerate(values)]
    text = "timestamp,value\n" + "\n".join(rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def daily(days: int, seed: int = 0) -> list[float]:
    at = np.arange(288 * days)
    load = 100 + 80 * np.sin(at * 2 * np.pi / 288)
    return np.random.default_rng(seed).poisson(load).astype(float).tolist()


def test_a_csv_is_read_onto_its_grid_plain_and_zipped(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.gz"):
        (series,) = read(written(tmp_path / name, [1.0, 2.0, 3.0]))
        assert series.step_s == 300
        assert series.values.tolist() == [1, 2, 3]
        assert (series.lower, series.upper) == (0, np.inf)


def test_gaps_are_missing_and_of_a_time_that_stands_twice_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,value\n0,1\n60,2\n60,3\n120,4\n240,5\n300,\n")
    (series,) = read(path)
    assert series.values == pytest.approx([1, 3, 4, np.nan, 5, np.nan], nan_ok=True)
    assert filled(series.values).tolist() == [1, 3, 4, 4, 5, 5]


def test_a_percentage_is_bounded(tmp_path: Path) -> None:
    (series,) = read(written(tmp_path / "cpu_utilization_x.csv", [1.0, 99.0, 3.0]))
    assert series.upper == 100


def test_a_trace_of_requests_is_counted_in_three_bins(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = "".join(f"{s}.5,chat,10,10\n" for s in range(200))
    path.write_text("arrival_s,model,prompt_tokens,output_tokens\n" + rows)
    found = read(path)
    assert [one.name for one in found] == ["mine@1s", "mine@10s", "mine@60s"]
    assert all(one.values == pytest.approx(np.ones(len(one.values))) for one in found)


def test_a_gap_of_servegen_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("timestamp_s,total_rate,active_clients\n0,3,1\n600,0,0\n1200,4,1\n")
    assert read(path)[0].values == pytest.approx([3, np.nan, 4], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timestamp,value\n0,1\ninf,1\n", ":3: no moment"),
        ("timestamp,value\n", "fewer than two moments"),
        ("timestamp,value\n0,nan\n60,\n120,\n", "no value in it"),
        ("timestamp,value\n0,1\nnoon,2\n", ":3: no time and value"),
        ("timestamp,value\n0,1\n", "fewer than two moments"),
        ("a,b\n1,2\n", ":1: no series"),
        ("", ":1: no series"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ContractError, match=said) as told:
        read(path)
    assert "\n" not in str(told.value)


def test_tables_of_another_kind_are_passed_over_in_a_folder(tmp_path: Path) -> None:
    written(tmp_path / "good.csv", [1.0, 2.0, 3.0])
    (tmp_path / "other.csv").write_text("client,rate\n1,2\n")
    found, passed = read_all([tmp_path])
    assert [one.name for one in found] == ["good"]
    assert len(passed) == 1


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,value\n2026-01-01T00:00Z,1\n2026-01-01T00:01Z,2\n2026-01-01T00:02Z,\n2026-01-01T00:03Z,4\n",
        "ts,load\n1767225600000,1\n1767225660000,2\n1767225720000,inf\n1767225780000,4\n",
        "1767225600,1\n1767225660,2\n1767225720,NA\n1767225780,4\n",
        "2026/01/01 00:00,1\n2026/01/01 00:01,2\n2026/01/01 00:02,-\n2026/01/01 00:03,4\n",
    ],
)
def test_moments_are_read_as_they_are_written_elsewhere(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    (series,) = read(tmp_path / "a.csv")
    assert series.step_s == 60
    assert series.values == pytest.approx([1, 2, np.nan, 4], nan_ok=True)


def test_a_bad_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    written(tmp_path / "good.csv", [1.0, 2.0, 3.0])
    written(tmp_path / "more/good.csv", [4.0, 5.0, 6.0])
    (tmp_path / "bad.csv").write_text("timestamp,value\n0,1\n60,x\n")
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"timestamp,value\n" * 99)[:20])
    found, passed = read_all([tmp_path, tmp_path / "absent.csv"])
    assert [one.name for one in found] == ["good", "good~2"]
    assert [line.partition(":")[0] for line in passed] == [
        str(tmp_path / name) for name in ("bad.csv", "torn.csv.gz", "absent.csv")
    ]


def test_the_figures_of_a_series_do_not_depend_on_its_unit(tmp_path: Path) -> None:
    values = np.random.default_rng(5).gamma(2.0, 10.0, 300)
    figures = []
    for unit in (1.0, 2.0**900, 2.0**-900):
        (series,) = read(written(tmp_path / "a.csv", (values * unit).tolist()))
        case = case_of(series)
        assert not isinstance(case, str)
        rows, _ = judge_online(case, "ours")
        figures.append(np.array([row[3:6] for row in rows]))
    assert figures[1] == pytest.approx(figures[0], rel=1e-3)
    assert figures[2] == pytest.approx(figures[0], rel=1e-3)


def test_the_true_season_is_the_day_where_two_are_known(tmp_path: Path) -> None:
    (series,) = read(written(tmp_path / "a.csv", daily(6)))
    assert season_of(series, 4 * 288) == 288


def test_without_days_the_season_is_where_the_series_repeats_itself() -> None:
    values = np.tile([5.0, 1.0, 2.0, 9.0, 4.0, 4.0, 7.0], 60)
    assert season_of(Series("x", 1.0, values, 0.0, np.inf), 300) == 7


def test_a_series_too_short_or_that_never_moves_is_left_out() -> None:
    short = Series("short", 1.0, np.arange(50.0), 0.0, np.inf)
    flat = Series("flat", 1.0, np.ones(500), 0.0, np.inf)
    assert "too few" in str(case_of(short))
    assert "never moves" in str(case_of(flat))


def test_coverage_counts_ties_in_favour_of_the_promise() -> None:
    zeros = np.zeros(100)
    assert coverage(zeros, zeros) == 0.95
    assert coverage(np.arange(100.0), np.full(100, 89.0)) == 0.9
    assert coverage(np.arange(100.0), np.full(100, 98.5)) == 0.99


def test_the_scores_of_the_last_value_are_those_counted_by_hand() -> None:
    values = np.random.default_rng(1).normal(50, 5, 500).cumsum() + 1000
    case = case_of(Series("walk", 1.0, values, 0.0, np.inf))
    assert not isinstance(case, str)
    assert len(set(case.origins.tolist())) == ORIGINS
    rows, _ = judge_online(case, "last_value")
    for row, horizon in zip(rows, HORIZONS, strict=True):
        errors = [abs(values[o + horizon - 1] - values[o - 1]) for o in case.origins]
        scale = np.mean([abs(values[i + 1] - values[i]) for i in range(299)])
        assert row.mase == pytest.approx(np.mean(errors) / scale)


def test_kalman_foresees_a_straight_line() -> None:
    values = 3.0 * np.arange(400) + 10
    made = dynamo_kalman(Series("line", 1.0, values, 0.0, np.inf), HORIZONS)
    assert made.point[300] == pytest.approx(values[300] + 3.0 * np.array(HORIZONS), rel=1e-3)


def test_a_record_gives_its_95th_percentile() -> None:
    values = np.random.default_rng(2).normal(0, 1, 3000)
    made = last_value(Series("noise", 1.0, values, -np.inf, np.inf), (1,))
    assert coverage(values[1001:], made.p95[1000:-1, 0]) == pytest.approx(0.95, abs=0.02)


def test_crane_repeats_the_day_and_knows_none_in_noise() -> None:
    rng = np.random.default_rng(3)
    past = np.array(daily(6))
    cycle = fit(past, 300.0, rng)
    assert cycle is not None
    truth = 100 + 80 * np.sin(np.arange(288) * 2 * np.pi / 288)
    assert np.abs(cycle / truth - 1).max() < 1.0
    assert np.corrcoef(cycle, truth)[0, 1] > 0.98
    assert fit(rng.poisson(50, 288 * 6).astype(float), 300.0, rng) is None


def test_a_pair_that_one_method_cannot_finish_is_dropped_for_all() -> None:
    rows = [Row("a", h, m, 1.0, 1.0, 0.95, 1.0) for m in METHODS for h in (1.0, 3.0)]
    kept, dropped = common([r for r in rows if not (r.method == "mstl" and r.horizon_s == 3.0)])
    assert {row.horizon_s for row in kept} == {1.0}
    assert dropped == ["a, 3 s: not finished by mstl"]


def test_small_moves_of_a_high_level_are_foreseen_as_those_of_a_low_one() -> None:
    values = np.random.default_rng(6).normal(0, 1, 500)
    errors = []
    for level in (0.0, 1e9):
        case = case_of(Series("x", 1.0, values + level, -np.inf, np.inf))
        assert not isinstance(case, str)
        errors.append([row.mase for row in judge_online(case, "ours")[0]])
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_a_refit_that_was_judged_before_is_not_judged_again(tmp_path: Path) -> None:
    pytest.importorskip("statsforecast")
    case = case_of(Series("x", 1.0, np.random.default_rng(7).poisson(20, 200) / 1.0, 0.0, np.inf))
    assert not isinstance(case, str)
    first, again = (judge_batch(case, "seasonal_naive", tmp_path) for _ in range(2))
    assert again == first, "to the microsecond"
    other = case._replace(season=case.season + 1)
    assert judge_batch(other, "seasonal_naive", tmp_path)[0].mase != first[0].mase
    assert len(list(tmp_path.iterdir())) == 2


def test_the_command_leaves_rows_report_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("statsforecast")
    # Short, so that the refits take seconds.
    values = np.random.default_rng(4).poisson(20, 200).astype(float).tolist()
    written(tmp_path / "load.csv", values, step_s=60)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "bench.accuracy",
        str(tmp_path / "load.csv"),
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=110)
    rows = json.loads((out / "accuracy.json").read_text())
    assert [row["method"] for row in rows[: len(METHODS)]] == list(METHODS)
    assert set(rows[0]) == set(Row._fields)
    assert {row["horizon_s"] for row in rows} == {60.0, 180.0, 720.0}
    assert (out / "load.svg").exists()
    assert "MASE" in (out / "report.md").read_text()


def test_a_bad_file_ends_the_command_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("timestamp,value\n0,1\n60,x\n")
    command = [sys.executable, "-m", "bench.accuracy", str(tmp_path / "bad.csv"), "--out", "x"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
