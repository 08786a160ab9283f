"""The compose files keep their promises: checked, limited, pinned, private to this machine."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from libs.common.topics import TOPICS
from tests.conftest import ROOT

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
BROKERS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.brokers.yaml").read_text())[
    "services"
]
# The second file adds to services of the first; these are its own.
ADDED = {name: service for name, service in BROKERS.items() if name not in SERVICES}
OURS = {name for name, service in SERVICES.items() if service["image"] == "plimsoll"}
every_service = pytest.mark.parametrize(
    ("name", "service"), [*SERVICES.items(), *ADDED.items()], ids=[*SERVICES, *ADDED]
)


@every_service
def test_every_service_is_limited_and_comes_back(name: str, service: dict[str, Any]) -> None:
    assert service["deploy"]["resources"]["limits"]["memory"]
    assert service["logging"]["options"]["max-size"]
    assert service["init"] is True
    assert service["restart"] == ("no" if name == "init" else "unless-stopped")
    assert {"plimsoll.service", "plimsoll.role"} <= service["labels"].keys()
    assert "container_name" not in service, "it would forbid a second replica"


@every_service
def test_every_service_but_init_has_a_check_that_starts_no_interpreter(
    name: str, service: dict[str, Any]
) -> None:
    if name == "init":
        assert service["healthcheck"] == {"disable": True}
        return
    kind, program, *_ = service["healthcheck"]["test"]
    assert kind == "CMD"
    assert program in {"bash", "/app/deploy/docker/ready", "redis-cli", "pg_isready", "wget"}


@every_service
def test_ports_are_published_on_this_machine_alone(name: str, service: dict[str, Any]) -> None:
    for port in service.get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z0-9_]+_PORT:-\d+\}:\d+", port), name


@every_service
def test_images_are_pinned_and_ours_may_do_nothing_special(
    name: str, service: dict[str, Any]
) -> None:
    if name in OURS:
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+|-alpine)", service["image"])


def test_our_image_is_built_once_from_a_pinned_base_and_runs_as_nobody_special() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["init"]
    lines = (ROOT / "deploy/docker/Dockerfile").read_text().splitlines()
    assert re.fullmatch(r"ARG PYTHON=3\.11\.\d+-slim-\w+", next(n for n in lines if "ARG" in n))
    assert "USER plimsoll" in lines
    assert not [n for n in lines if n.startswith("# syntax") or "--mount" in n]


def test_metrics_predictor_and_scheduler_run_twice() -> None:
    twice = {n for n, service in SERVICES.items() if service["deploy"].get("replicas") == 2}
    assert twice == {"metrics", "predictor", "scheduler"}


def test_both_kafkas_live_by_the_same_settings() -> None:
    mount = "./deploy/kafka/server.properties:/mnt/shared/config/server.properties:ro"
    for service in (SERVICES["kafka"], *ADDED.values()):
        assert mount in service["volumes"]
    # On top of these, the container says where it is, and nothing else.
    assert {name.removeprefix("KAFKA_") for name in SERVICES["kafka"]["environment"]} == {
        *("LISTENERS", "ADVERTISED_LISTENERS", "LISTENER_SECURITY_PROTOCOL_MAP"),
        *("INTER_BROKER_LISTENER_NAME", "CONTROLLER_QUORUM_VOTERS", "LOG_DIRS", "HEAP_OPTS"),
    }


def test_of_three_brokers_any_one_may_die() -> None:
    cluster = [BROKERS[name]["environment"] for name in ("kafka", "kafka-2", "kafka-3")]
    assert {broker["KAFKA_NODE_ID"] for broker in cluster} == {1, 2, 3}
    properties = (ROOT / "deploy/kafka/server.properties").read_text()
    single = re.findall(
        r"^(\S*(?:replication\.factor|min\.isr|min\.insync\S*))=1$", properties, re.M
    )
    assert len(single) >= 6
    for name in single:
        variable = "KAFKA_" + name.replace(".", "_").upper()
        wanted = 2 if "min" in name else 3
        assert all(broker[variable] == wanted for broker in cluster), variable
    assert "broker.session.timeout.ms=3000" in properties
    for name in OURS - {"metrics-gpu"}:
        servers = BROKERS[name]["environment"]["PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS"]
        assert servers.count(":19092") == 3, name


def test_everything_is_in_the_example_file() -> None:
    listed = set(re.findall(r"^# ([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
    for path in ("compose.yaml", "deploy/compose.brokers.yaml"):
        used = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / path).read_text()))
        assert used <= listed, path


def test_prometheus_looks_for_every_service_of_ours() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = [d for job in config["scrape_configs"] for d in job.get("dns_sd_configs", ())]
    names = {name for one in found for name in one["names"]}
    assert OURS - {"init", "metrics-gpu"} <= names
    assert "dcgm-exporter" in names


def test_what_is_mounted_is_there() -> None:
    for service in (*SERVICES.values(), *ADDED.values()):
        for volume in service.get("volumes", ()):
            source = volume.rpartition(":ro")[0].rpartition(":")[0] or volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source


# --- The scripts ----------------------------------------------------------------------------------


def fake_docker(folder: Path, *lines: str) -> dict[str, str]:
    """A `docker` that answers as an engine would that nobody has here."""
    program = folder / "docker"
    program.write_text('#!/bin/bash\ncase "$*" in\n' + "\n".join(lines) + "\nesac\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def run_up(env: dict[str, str]) -> str:
    done = subprocess.run(
        [shutil.which("bash") or "bash", str(ROOT / "deploy/docker/up")],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_an_old_compose_is_told_by_its_version(tmp_path: Path) -> None:
    env = fake_docker(tmp_path, '"compose version --short") echo v2.9.1;;')
    assert run_up(env) == "plimsoll: docker compose is 2.9.1, 2.24 or newer is needed"


def test_an_engine_that_does_not_answer_is_named(tmp_path: Path) -> None:
    env = fake_docker(tmp_path, '"compose version --short") echo v2.40.3;;', "info) exit 1;;")
    assert "no Docker engine answers" in run_up(env)


def test_a_port_that_is_taken_is_named_with_the_variable_that_moves_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = json.dumps({"services": {"grafana": {"ports": [{"published": str(port)}]}}})
        env = fake_docker(
            tmp_path,
            '"compose version --short") echo 2.40.3;;',
            f"\"compose config --format json\") echo '{config}';;",
        )
        assert f"port {port} of this machine is taken" in run_up(env)


def test_the_topics_have_no_more_copies_than_brokers() -> None:
    # The replication of our topics is the broker's default: one alone, three of three.
    assert all("replication" not in str(topic.config()) for topic in TOPICS)
