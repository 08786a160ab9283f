"""The rules of the rooms: what may import what, and that nothing lies about unused.

The table is `docs/architecture.md`, section "Rooms"; here it is enforced.
"""

import ast
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = set(sys.stdlib_module_names)
# A decision reads no clock, no world and no chance: they come in as arguments.
WORLD = {"time", "datetime", "random", "os", "sys", "asyncio", "logging", "socket", "subprocess"}
COMMON = "libs.common"
CONTRACTS = {f"{COMMON}.{m}" for m in ("messages", "topics", "plimsoll_pb2", "errors", "series")}
PORTS = CONTRACTS | {
    f"{COMMON}.{m}" for m in ("ports", "wire", "ticks", "intake", "telemetry", "settings")
}
SHELL = PORTS | {"numpy", "structlog", "prometheus_client", "pydantic", "pydantic_settings"}

# (files, what they may import beyond the standard library). The first row that matches holds.
ROOMS: list[tuple[str, set[str]]] = [
    ("libs/common/adapters/*.py", {"*"}),
    ("libs/common/plimsoll_pb2.py", {"google"}),
    ("libs/common/telemetry.py", {"structlog", "prometheus_client"}),
    ("libs/common/settings.py", PORTS | {"pydantic", "pydantic_settings"}),
    ("libs/common/jit.py", {"numba"}),
    ("libs/common/planes.py", {"numpy", "numba"}),
    ("libs/common/ticks.py", PORTS | {"numpy", "zstandard", f"{COMMON}.planes"}),
    ("libs/common/*.py", PORTS | {"pydantic", "numpy", "orjson", "google"}),
    (
        "libs/fleet/*.py",
        CONTRACTS | {"numpy", "numba", "llvmlite", "libs.fleet", "pydantic", "yaml"},
    ),
    ("services/*/__main__.py", {"*"}),
    ("services/*/migrations/*.py", {"*"}),
    ("services/predictor/core/foresee/*.py", {"numpy", "numba"}),
    ("services/scheduler/core/*.py", CONTRACTS | {"numpy", "numba", f"{COMMON}.jit"}),
    ("services/predictor/core/*.py", CONTRACTS | {"numpy", "numba", f"{COMMON}.jit"}),
    ("services/inventory/core/*.py", CONTRACTS | {f"{COMMON}.ports"}),  # what a ledger speaks of
    ("services/*/core/*.py", CONTRACTS | {"numpy"}),
    ("services/predictor/snapshots.py", SHELL | {"google", "zstandard"}),
    ("services/predictor/*.py", SHELL | {"faust", "mode"}),
    ("services/executor/*.py", SHELL | {"libs.fleet"}),
    ("services/*/*.py", SHELL),
    ("cli/*.py", {"*"}),
    ("bench/accuracy/yardsticks.py", {"numpy", "statsforecast", "bench.accuracy"}),
    (
        "bench/wire.py",  # it records this host by the adapter that the collector uses
        {"numpy", "rich", "bench", f"{COMMON}.ticks", f"{COMMON}.adapters.host"},
    ),
    (
        "bench/encodings.py",
        CONTRACTS | {"numpy", "zstandard", "google", "opentelemetry", "bench", f"{COMMON}.ticks"},
    ),
    (
        "bench/throughput/*.py",  # it fills a real Kafka, and reads it as others do
        SHELL
        | {"rich", "faust", "aiokafka", "bench.throughput", "cli.local", f"{COMMON}.adapters"}
        | {"services.predictor"},
    ),
    ("bench/chaos/checker.py", set()),  # of the service it shares nothing, not even a name
    ("bench/chaos/plan.py", set()),
    ("bench/chaos/outside.py", {"aiokafka", "asyncpg", "bench.chaos.checker"}),
    (
        "bench/chaos/*.py",  # it runs the service as people run it
        PORTS
        | {"rich", "typer", "aiokafka", "sqlalchemy"}
        | {"bench.chaos", "cli.local", f"{COMMON}.adapters"},
    ),
    ("bench/wire_load.py", CONTRACTS | {"numpy", f"{COMMON}.wire", f"{COMMON}.ports"}),
    (
        "bench/*.py",
        CONTRACTS
        | {"numpy", "numba", "pydantic", "yaml", "typer", "rich", "matplotlib", "simpy"}
        | {
            "bench",
            "libs.fleet",
            f"{COMMON}.wire",
            "services.load.core",
            "services.load.trace_file",
        }
        | {"services.predictor.core", "services.scheduler.core", "services.scheduler.observation"},
    ),
    ("deploy/grafana/*.py", {"grafana_foundation_sdk", "deploy.grafana"}),
]


def modules() -> list[Path]:
    return [
        path
        for top in ("libs", "services", "cli", "deploy", "bench")
        for path in sorted((ROOT / top).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def imports(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it: `from a import b` gives `a.b`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room_of(path: Path) -> tuple[str, set[str]]:
    relative = path.relative_to(ROOT).as_posix()
    for pattern, allowed in ROOMS:
        if fnmatch(relative, pattern):  # its * crosses folders
            return pattern, allowed
    raise AssertionError(f"{relative} lies in no room of the table")


def within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in allowed)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_its_row_allows(path: Path) -> None:
    pattern, allowed = room_of(path)
    if "*" in allowed:
        return
    own = ".".join(path.relative_to(ROOT).parts[:2])  # services.scheduler: its own rooms
    for module in imports(path):
        if module.partition(".")[0] in STDLIB:
            in_core = "core" in path.parts or own == "libs.fleet"
            assert not (in_core and within(module, WORLD)), f"{module}: a core reads no world"
        else:
            mine = own.startswith("services.") and within(module, {own})
            assert mine or within(module, allowed), f"{module} is not for {pattern}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_service_never_imports_another_and_no_core_its_shell(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if parts[0] != "services":
        return
    for module in imports(path):
        if module.startswith("services."):
            assert module.split(".")[1] == parts[1], f"{module}: services meet in messages"
            if "core" in parts:
                assert ".core" in module, f"{module}: a core does not know its shell"


def test_client_libraries_live_in_the_adapters_alone() -> None:
    clients = {"aiokafka", "sqlalchemy", "pynvml", "psutil", "aiosqlite", "asyncpg", "redis"}
    for path in modules():
        # The bare client is a yardstick of `make throughput`; who checks from outside has his own.
        own = ("outside", "rates", "row_at_a_time")
        free = ("libs/common/adapters/*.py", "bench/throughput/worker.py")
        free += tuple(f"bench/chaos/{name}.py" for name in own)
        if not any(map(path.match, free)) and "migrations" not in path.parts:
            assert not [m for m in imports(path) if within(m, clients)], path


def test_no_module_lies_about_unused() -> None:
    # The adapters in memory are for the tests, so a test's import counts as a use.
    readers = [*modules(), *(ROOT / "tests").rglob("*.py")]
    used = {name for path in readers for name in imports(path)}
    for path in modules():
        if path.name in ("__main__.py", "__init__.py") or "migrations" in path.parts:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert any(u == name or u.startswith(name + ".") for u in used), f"nobody imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nobody_waits_in_a_way_that_loses_a_cancellation(path: Path) -> None:
    # Before Python 3.12, wait_for drops a cancellation that comes as its call ends: a service that
    # was told to stop goes on. asyncio.timeout does not.
    assert "asyncio.wait_for(" not in path.read_text()
