"""The files that people write: what is taken, and what is said of what is not."""

import re
from pathlib import Path

import pytest

from libs.common.errors import SettingError
from libs.fleet.spec import read_fleet, read_models

DEPLOY = Path(__file__).parents[2] / "deploy"
FLEET = """
device_types: {h100: {memory_bytes: 80000000000}}
nodes: [{name: a, count: 2, device_type: h100, gpus: 2, load_bytes_per_s: 4e9}]
training: [{name: t, gpus: 1, memory_bytes: 1, step_ms: {h100: 50}, steps: 10}]
"""
MODELS = """
models:
- {name: chat, objective: {latency_ms: 20}, weights_bytes: 1, law: {h: {alpha_ms: 1, beta_ms: 1}}}
"""


def test_the_files_that_come_with_the_project_are_right_and_fit_each_other() -> None:
    fleet, models = read_fleet(DEPLOY / "fleet.yaml"), read_models(DEPLOY / "models.yaml")
    memory_bytes = min(kind.memory_bytes for kind in fleet.device_types.values())
    for model in models:
        assert model.law.keys() >= fleet.device_types.keys()
        full = model.weights_bytes + model.activation_bytes + model.batch_max * model.request_bytes
        assert full <= memory_bytes, model.name
        # Alone on its node, within what the demo promises.
        load_s = model.load.image_s + model.load.bytes / 4e9 + model.load.compile_s
        assert 5 <= load_s <= 15, model.name


def test_a_fleet_names_its_devices_node_by_node(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    assert [device.device for device in read_fleet(path).devices()] == [
        "a-0/0", "a-0/1", "a-1/0", "a-1/1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gpus: 2", "gpus: 0", "nodes.0.gpus: Input should be greater than or equal to 1 (got 0)"),
        ("gpus: 2", "gpu: 2", "nodes.0.gpus: Field required"),
        ("count: 2", "counts: 2", "nodes.0.counts: Extra inputs are not permitted (got 2)"),
        ("steps: 10", "steps: many", "training.0.steps: Input should be a valid integer"),
        ("4e9", ".nan", "nodes.0.load_bytes_per_s: Input should be a finite number (got nan)"),
        ("name: a", "name: a/b", "nodes.0.name: String should match pattern"),
        ("gpus: 1", "gpus: 8", "training job 't' wants 8 GPUs of one node"),
        ("{h100: 50}", "{a100: 50}", "device type 'a100' is not among device_types"),
        ("nodes:", "nodes: [", "not YAML: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_place_and_value(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET.replace(old, new, 1))
    with pytest.raises(SettingError) as caught:
        read_fleet(path)
    assert re.match(re.escape(str(path)) + r"(:\d+)?: ", str(caught.value))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_nodes_of_one_name_and_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(MODELS + MODELS.splitlines()[2])
    with pytest.raises(SettingError, match="model 'chat' stands there twice"):
        read_models(path)
    line = FLEET.splitlines()[2]
    path.write_text(FLEET.replace(line, line[:-1] + ", " + line[8:]))
    with pytest.raises(SettingError, match="node 'a-0' stands there twice"):
        read_fleet(path)


def test_a_misspelt_key_of_a_model_is_refused_though_the_bus_would_ignore_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(MODELS.replace("latency_ms", "latency", 1))
    with pytest.raises(SettingError, match=r"models\.0\.objective: .*neither latency_ms nor"):
        read_models(path)
    path.write_text(MODELS.replace("weights_bytes: 1", "weights_bytes: 1, weight: 2"))
    with pytest.raises(SettingError, match=r"models\.0\.weight: Extra inputs .*got 2"):
        read_models(path)


def test_an_absent_file_and_an_empty_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="No such file"):
        read_fleet(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(SettingError, match="the file: Input should be"):
        read_fleet(tmp_path / "empty.yaml")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("gpus: 2", "gpus: -1", 3), ("gpus: 2", "gpus: 2,\n gpu: 1", 4), ("steps: 10", "steps: x", 4)],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET.replace(old, new, 1))
    with pytest.raises(SettingError) as caught:
        read_fleet(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
