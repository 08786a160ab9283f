from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.fit.__main__ import LAWS, write
from bench.fit.least_squares import Measured, errors_left_out, fit
from bench.fit.llm import ARCHITECTURES
from bench.fit.profiles import shared_folder
from libs.common.errors import SettingError


@pytest.fixture(scope="module")
def laws() -> Any:
    return yaml.safe_load(LAWS.read_text())


def measured(noise: float = 0.0, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    batch = np.repeat([1, 2, 4, 8, 16], 3)
    terms = np.stack([np.ones(15), batch, rng.uniform(100, 5000, 15)], axis=1)
    return Measured(terms, terms @ [30.0, 0.2, 0.01] * rng.normal(1, noise, 15), batch)


def test_a_law_that_holds_is_found_exactly() -> None:
    assert fit(measured()) == pytest.approx([30.0, 0.2, 0.01])
    with_known = measured()._replace(known=10.0)
    assert fit(with_known) == pytest.approx([20.0, 0.2, 0.01])


def test_no_coefficient_is_negative_and_none_nearby_is_better() -> None:
    rows = Measured(
        np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]]),
        np.array([3.0, 2.0, 1.0]),
        np.array([1, 2, 4]),
    )

    def loss(x: np.ndarray) -> float:
        return float((((rows.terms @ x) / rows.times - 1) ** 2).sum())

    x = fit(rows)
    assert x[1] == 0  # unbounded, it would fall with the batch
    assert x[0] > 0
    for step in ([0.01, 0], [-0.01, 0], [0, 0.01], [-0.01, 0.01]):
        assert loss(x + step) >= loss(x)


def test_a_batch_size_that_was_left_out_is_met_within_the_noise() -> None:
    error = errors_left_out(measured(noise=0.03))
    assert np.isnan(error[:3]).all()  # the ends are always seen
    assert np.isnan(error[-3:]).all()
    assert np.nanmedian(error) < 0.06


def test_bytes_follow_from_the_published_architectures() -> None:
    # Llama-2-7B: half a MiB of KV cache a token; 6.74, 69 and 8.03 billion parameters.
    assert ARCHITECTURES["llama-2-7b"].kv_bytes_per_token == 512 * 1024
    for name, billions in (("llama-2-7b", 6.74), ("llama-2-70b", 69.0), ("llama-3-8b", 8.03)):
        assert ARCHITECTURES[name].weights_bytes == pytest.approx(2e9 * billions, rel=0.002)
    assert ARCHITECTURES["bloom-176b"].weights_bytes == pytest.approx(2 * 176.2e9, rel=0.002)


def test_every_written_law_meets_batch_sizes_it_has_not_seen_within_ten_percent(laws: Any) -> None:
    entries = [*laws["llm"], *laws["batch"], *laws["training"]["jobs"]]
    fitted = [entry for entry in entries if "median_error_percent" in entry]
    assert len(fitted) >= 20
    for entry in fitted:
        assert entry["median_error_percent"]["left_out"] <= 10, entry


def test_what_is_not_measured_is_called_illustrative(laws: Any) -> None:
    for entry in laws["batch"]:
        assert ("illustrative" in entry["basis"]) or entry["median_error_percent"]


def test_every_law_names_its_source_and_that_one_its_commit(laws: Any) -> None:
    entries = [*laws["llm"], *laws["batch"], *laws["training"]["jobs"], laws["loading"]]
    for source in {source for entry in entries for source in entry["sources"]}:
        assert len(laws["sources"][source]["commit"]) == 40
        assert laws["sources"][source]["licence"]


def test_a_faster_device_is_faster_in_every_law(laws: Any) -> None:
    by_model: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    for entry in laws["llm"]:
        by_model.setdefault((entry["model"], entry["gpus"]), {})[entry["device_type"]] = entry[
            "law"
        ]
    for types in by_model.values():
        if {"a100", "h100"} <= set(types):
            for name in ("base_ms", "prefill_token_ms", "kv_token_ms"):
                assert types["h100"][name] < types["a100"][name]
    for job in laws["training"]["jobs"]:
        assert job["step_ms"]["h100"] < job["step_ms"]["a100"]


def test_a_job_has_steps_longer_than_300_ms(laws: Any) -> None:
    assert max(job["step_ms"]["h100"] for job in laws["training"]["jobs"]) > 300


def test_missing_profiles_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"splitwise_llm_perf.*PLIMSOLL_SHARED") as refusal:
        write(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(
    not (shared_folder() / "profiles").exists(),
    reason=f"the measured profiles are not at {shared_folder() / 'profiles'}",
)
def test_the_committed_laws_are_what_the_fit_makes() -> None:
    assert write(shared_folder()) == LAWS.read_text()
