"""What the scenarios promise, reckoned from their loads; and what is refused, in one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.bounds import burst_of, kind_of, oracle_gpu_s
from bench.load import load_of
from bench.scenario import FOLDER, names, read_scenario
from libs.common.errors import ContractError, SettingError


def oracle_gpus(name: str) -> dict[str, float]:
    scenario = read_scenario(name)
    load = load_of(scenario, 1)
    window_s = load.duration_s - scenario.warmup_s
    return {m: float(part.sum()) / window_s for m, part in oracle_gpu_s(scenario, load).items()}


def test_the_default_needs_sixteen_gpus_at_the_oracle_and_chat_is_40_percent_of_them() -> None:
    scenario = read_scenario("default")
    gpus = oracle_gpus("default")
    assert len(gpus) >= 8
    assert {spec.kind for spec in scenario.models} == {"llm", "batch"}
    assert sum(gpus.values()) >= 16
    assert gpus["chat"] >= 0.4 * sum(gpus.values())


@pytest.mark.parametrize("name", names())
def test_no_policy_can_finish_the_training(name: str) -> None:
    scenario = read_scenario(name)
    backlog_s = sum(
        job.steps * min(job.step_ms.values()) / 1000 * job.gpus for job in scenario.fleet.training
    )
    assert backlog_s >= len(scenario.fleet.devices()) * scenario.duration_s
    assert any(min(job.step_ms.values()) > 300 for job in scenario.fleet.training)


@pytest.mark.parametrize("name", names())
def test_the_load_is_of_the_kind_it_says(name: str) -> None:
    scenario = read_scenario(name)
    for seed in (1, 2):
        assert kind_of(burst_of(scenario, load_of(scenario, seed))) == scenario.kind


@pytest.mark.parametrize("name", names())
def test_every_model_loads_in_the_cold_start_that_is_said(name: str) -> None:
    scenario = read_scenario(name)
    bandwidth = scenario.fleet.nodes[0].load_bytes_per_s
    for spec in scenario.models:
        load = spec.load
        whole_s = load.image_s + (load.bytes or spec.weights_bytes) / bandwidth + load.compile_s
        assert whole_s == pytest.approx(scenario.cold_start_s, abs=1e-3)


def test_laws_are_those_that_were_fitted() -> None:
    laws = yaml.safe_load((FOLDER.parent / "laws.yaml").read_text())
    fitted = {
        (law["model"], law["device_type"], law.get("gpus", 1)): law["law"] for law in laws["llm"]
    }
    fitted |= {(law["model"], law["device_type"], 1): law["law"] for law in laws["batch"]}
    of = {
        "chat": ("llama-3-8b", 1),
        "assistant": ("llama-3-70b", 4),
        "code": ("qwen2-7b", 1),
        "translate": ("llama-2-7b", 1),
        "embed": ("embed", 1),
        "rerank": ("rerank", 1),
        "moderate": ("rerank", 1),
        "vision": ("vision", 1),
    }
    for name in names():
        for spec in read_scenario(name).models:
            model, gpus = of[spec.name]
            assert spec.law["h100"].model_dump() == fitted[model, "h100", gpus], spec.name


def test_the_same_seed_gives_the_same_load_and_another_one_another() -> None:
    scenario = read_scenario("tiny")
    first, again, other = (load_of(scenario, seed).requests() for seed in (1, 1, 2))
    assert first.due_ms.tobytes() == again.due_ms.tobytes()
    assert first.output_tokens.tobytes() == again.output_tokens.tobytes()
    assert first.due_ms.tobytes() != other.due_ms.tobytes()


def change(tmp_path: Path, *steps: Any, to: Any) -> Path:
    """Write `tiny` with the value at a place replaced."""
    content = yaml.safe_load((FOLDER / "tiny.yaml").read_text())
    place = content
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = to
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("steps", "to", "said"),
    [
        (("durations_s",), 3, r"durations_s: Extra inputs .*\(got 3\)"),
        (("models", 0, "gpu"), 2, r"models\.0\.gpu: Extra inputs .*\(got 2\)"),
        (("models", 0, "gpus"), 16, r"'chat' fits on no GPU: it takes 16 of one node"),
        (("models", 0, "kv_tokens"), 900_000, r"'chat' fits on no GPU: it needs \d+ bytes"),
        (("models", 1, "law"), {"a100": {"alpha_ms": 1, "beta_ms": 1}}, r"a law for a100"),
        (("models", 1, "objective", "latency_ms"), 30, r"30 is not above the bare service time 32"),
        (("models", 0, "objective", "tpot_ms"), 8, r"tpot_ms 8 is too near the shortest iteration"),
        (("load", "sound"), {"rate_rps": 1}, r"'sound' stands not under models"),
        (("load", "vision", "rate_rps"), -1, r"load\.vision\.rate_rps: .*\(got -1\)"),
        (("load", "chat", "burst"), [0.7, 0.5, 2], r"burst begins at 0\.7, after its end 0\.5"),
        (
            ("load", "vision"),
            {"rate_rps": 1, "days": {"profile": "weekly"}},
            r"load\.vision\.days\.profile: .*\(got 'weekly'\)",
        ),
        (
            ("load", "vision"),
            {"rate_rps": 1, "days": {"profile": "m_small", "begins_at": "08:00"}},
            r"load\.vision\.days\.begins_at: Extra inputs",
        ),
        (
            ("load", "vision"),
            {"rate_rps": 1, "burst": [0.1, 0.2, 3], "days": {"profile": "m_small"}},
            r"days go with rate_rps, not with a trace or a burst",
        ),
        (("warmup_s",), 30, r"warmup_s 30 is not below duration_s 30"),
        (("cold_start_s",), 20, r"wants a warm-up of 40 s, which is not below duration_s 30"),
        (("cold_start_s",), 1, r"cold_start_s 1 is below the 2\.1\d* s that chat takes"),
    ],
)
def test_a_wrong_scenario_is_told_in_one_line(
    tmp_path: Path, steps: tuple[Any, ...], to: Any, said: str
) -> None:
    path = change(tmp_path, *steps, to=to)
    with pytest.raises(SettingError, match=said) as refusal:
        read_scenario(str(path))
    assert "\n" not in str(refusal.value)
    assert "mine" in str(refusal.value)


def a_trace(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,model,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return path


def test_a_trace_replaces_a_load_keeps_its_copies_and_ends_the_run(tmp_path: Path) -> None:
    rows = [f"{0.1 * i:.1f},x,100,10" for i in range(201)]
    scenario = read_scenario("tiny").with_traces({"chat": a_trace(tmp_path, *rows)})
    load = load_of(scenario, 1)
    assert load.duration_s == 20
    assert len(load.arrivals["chat"].at_ms) == 200
    assert load.arrivals["vision"].at_ms.max() < 20_000
    assert load.labels()["chat"] == "plain (trace.csv)"
    assert load.labels()["vision"].startswith("synthetic")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1,x,100,10", "0.5,x,100,10"], r"trace\.csv:3: out of order of time"),
        (["1,x,100,-10"], r"trace\.csv:2: output_tokens is negative"),
        (["1,x,100,10", "2,x,100,10"], r"it ends after 2 s, within the warmup_s of 6"),
        (["1,x,900000,10", "9,x,1,1"], r"a request to chat has 900010 tokens, more than the kv_to"),
        (["1,x,100,0", "9,x,10,0"], r"chat is an LLM, and no request has tokens"),
    ],
)
def test_a_trace_that_cannot_be_played_is_told_in_one_line(
    tmp_path: Path, rows: list[str], said: str
) -> None:
    scenario = read_scenario("tiny").with_traces({"chat": a_trace(tmp_path, *rows)})
    with pytest.raises(ContractError, match=said):
        load_of(scenario, 1)
