"""A real Prometheus for tests, on the project's own configuration, and the tools beside it."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cli.local.kafka import free_ports
from cli.local.processes import end, last_lines, spawn
from tests.conftest import ROOT, absent

FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
METRIC = re.compile(r"\b(?:plimsoll_\w+|process_\w+|up\b)")
ANSWERS_WITHIN_S = 15.0


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; without it the test is skipped, visibly."""
    found = shutil.which(name)
    if found is None:
        absent(f"{name} is not installed (Debian: prometheus)")
    assert found is not None
    return found


def rules() -> Iterator[dict[str, Any]]:
    """Yield every rule of the project, record or alert, as it stands in its file."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from group["rules"]


def records() -> dict[str, str]:
    """Return what is recorded: name and expression."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that an expression reads, through the records that it names."""
    for name, made_of in records().items():
        expression = expression.replace(name, made_of)
    return set(METRIC.findall(expression))


def found_at(config: dict[str, Any], addresses: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the configuration with addresses, by service, in place of what DNS would find.

    Nothing else is changed, as the rest is what is tested. A name without addresses has no target,
    as in DNS; Prometheus itself is the service `prometheus`.
    """
    scrapes = []
    for scrape in config["scrape_configs"]:
        kept = {key: value for key, value in scrape.items() if not key.endswith("_sd_configs")}
        names = [name for dns in scrape.get("dns_sd_configs", []) for name in dns["names"]]
        found = [
            {"targets": list(addresses.get(name, [])), "labels": {"__meta_dns_name": name}}
            for name in names
        ]
        if scrape["job_name"] == "prometheus":
            found = [{"targets": list(addresses["prometheus"])}]
        scrapes.append({**kept, "static_configs": found})
    return {**config, "scrape_configs": scrapes}


class Prometheus:
    """One server with data of its own in `folder`; a context manager that leaves none behind."""

    def __init__(self, folder: Path, addresses: Mapping[str, Sequence[str]]) -> None:
        self._folder = folder
        self._port = free_ports(0)[0]
        self._own = f"127.0.0.1:{self._port}"
        self._addresses = {**addresses, "prometheus": [self._own]}
        self._log = folder / "prometheus.log"

    def __enter__(self) -> "Prometheus":
        binary = program("prometheus")
        # Beside the rules, as in the image: `rule_files` is relative.
        (self._folder / "rules").symlink_to(FOLDER / "rules")
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        file = self._folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(found_at(config, self._addresses)))
        arguments = {
            "config.file": file,
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": self._own,
            "log.level": "warn",
        }
        argv = [binary, *(f"--{name}={value}" for name, value in arguments.items())]
        self._process = spawn(argv, log=self._log)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process, timeout_s=5.0)

    def query(self, expression: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """The series that an expression has now or had at a time, each {metric, value}.

        Raises ValueError if it is refused.
        """
        moment = {} if at_s is None else {"time": f"{at_s:.3f}"}
        answer = self._get("query", query=expression, **moment)
        series = answer["result"]
        return [{"metric": {}, "value": series}] if answer["resultType"] == "scalar" else series

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health and its last error."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def metric_names(self) -> set[str]:
        """The names of all metrics that it has."""
        return set(self._get("label/__name__/values"))

    def targets(self) -> list[dict[str, Any]]:
        """The targets that it reads, with their labels and health."""
        return list(self._get("targets")["activeTargets"])

    def _get(self, path: str, **arguments: str) -> Any:
        url = f"http://{self._own}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=10.0) as page:
                return json.load(page)["data"]
        except urllib.error.HTTPError as refusal:
            raise ValueError(f"{arguments or path}: {refusal.read().decode()}") from refusal

    def _wait(self) -> None:
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(f"http://{self._own}/-/ready", timeout=2.0).close()
                return
            except OSError as error:
                gone = self._process.poll() is not None
                if gone or time.monotonic() > deadline:
                    raise AssertionError(f"no Prometheus:\n{last_lines(self._log)}") from error
            time.sleep(0.1)


def promtool(*arguments: object) -> str:
    """Run promtool and return what it says. Raises AssertionError with that if it complains."""
    argv = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60.0)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
