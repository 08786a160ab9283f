"""The command as a user has it: every policy on a small load, and faults told in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.peers import NAMES

ROOT = Path(__file__).parents[2]
FIELDS = {
    *("scenario", "policy", "variant", "seed", "judged_from_s", "judged_until_s"),
    *("requests", "slo_attainment", "models"),
    *("latency_ms", "ttft_ms", "tpot_ms", "gpu_hours_serving", "gpu_hours_training"),
    *("gpu_hours_total", "standby_memory_share", "cost_usd", "goodput_per_gpu_hour"),
    *("goodput_per_usd", "gpu_busy_share", "useful_work_share", "useful_serving_hours"),
    *("training_steps", "moves"),
    *(
        "oom_events",
        "kv_preemptions",
        "kv_migrations",
        "regret_vs_oracle",
        "regret_vs_clairvoyant",
        "decide_us",
    ),
}


DEFAULTS = ("--scenario", "tiny", "--seed", "3", "--variants", "default")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "out"
    done = bench("run", *DEFAULTS, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_every_policy_leaves_a_row_with_every_figure(out: Path) -> None:
    rows = json.loads((out / "results.json").read_text())
    assert {row["policy"] for row in rows} == set(NAMES)
    for row in rows:
        assert set(row) == FIELDS
        assert row["seed"] == 3
        # Of 30 s, 6 are the warm-up, and 30 % of the rest is for tuning: for all alike.
        assert (row["judged_from_s"], row["judged_until_s"]) == (13.2, 30)
        assert 0 <= row["slo_attainment"] <= 1
        split = row["gpu_hours_serving"] + row["gpu_hours_training"]
        assert split <= row["gpu_hours_total"] + 2e-6  # each is rounded to six digits
        whole = sum(model["gpu_hours_serving"] for model in row["models"])
        assert whole == pytest.approx(row["gpu_hours_serving"], rel=0.02)
        assert sum(model["requests"] for model in row["models"]) == row["requests"]


def test_a_peer_is_there_by_default_tuned_and_both_with_our_shares(tmp_path: Path) -> None:
    done = bench("run", "--scenario", "tiny", "--policies", "hpa", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["variant"] for row in rows} >= {
        "default",
        "tuned",
        "default+shares",
        "tuned+shares",
    }
    assert "What tuning chose" in (tmp_path / "report.md").read_text()


def test_nobody_at_99_percent_is_below_the_oracle(out: Path) -> None:
    rows = json.loads((out / "results.json").read_text())
    assert any(row["policy"] == "ours" and row["slo_attainment"] >= 0.99 for row in rows)
    for row in rows:
        if row["slo_attainment"] >= 0.99:
            assert row["regret_vs_oracle"] >= 0
            assert row["oom_events"] == 0


def test_rows_are_sorted(out: Path) -> None:
    rows = json.loads((out / "results.json").read_text())
    order = [row["policy"] for row in rows]
    assert order == sorted(order)


def test_the_page_needs_no_other_file(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "src=" not in page
    assert "synthetic" in page
    report = (out / "report.md").read_text()
    for line in report.splitlines():
        if line.startswith("!["):
            assert (out / line.partition("(")[2].rstrip(")")).exists()
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_the_same_seed_gives_the_same_bytes_but_for_the_time_of_decisions(
    out: Path, tmp_path: Path
) -> None:
    done = bench("run", *DEFAULTS, "--jobs", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr

    def rows(folder: Path) -> str:
        found = json.loads((folder / "results.json").read_text())
        return json.dumps([{**row, "decide_us": None} for row in found])

    assert rows(tmp_path) == rows(out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scenario", "none"), "no scenario 'none'; there are bursty, default,"),
        (("--policies", "hpa,magic"), "--policies: no policy 'magic'; there are static, hpa,"),
        (("--variants", "tuned,best"), "--variants: no variant 'best'; there are default,"),
        (("--trace", "chat"), "--trace chat: expected MODEL=FILE"),
        (("--trace", "sound=x.csv"), "scenario tiny has no model 'sound', but chat, vision"),
        (("--trace", "chat=no.csv"), "no.csv: No such file or directory"),
        (("--cold-start", "1"), "cold_start_s 1 is below the 2."),
        (("--out", "Makefile"), "--out Makefile: File exists"),
    ],
)
def test_a_fault_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    done = bench("run", "--scenario", "tiny", "--out", str(out), *arguments)
    assert done.returncode == 1
    # Above it the progress bars may stand.
    assert said in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not out.exists() or not list(out.iterdir())


def test_list_names_scenarios_and_policies() -> None:
    done = bench("list")
    assert done.returncode == 0
    assert "very_bursty" in done.stdout
    assert "clairvoyant" in done.stdout
    assert "tuned+shares" in done.stdout
