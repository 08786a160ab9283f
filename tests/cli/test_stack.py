"""What a stack of processes says of itself while one waits for it."""

from pathlib import Path

from cli.stack import Stack
from libs.common.telemetry import Health, serve_http


async def test_what_a_service_lacks_is_told_in_its_own_words(tmp_path: Path) -> None:
    health = Health(stuck_after_s=10)
    said: list[str | None] = ["compiling"]
    health.ready_when("kernels", lambda: said[0])
    health.check()
    stack = Stack("nowhere:9092", tmp_path, print)
    ready = f"http://127.0.0.1:{serve_http(health, '127.0.0.1', 0)}"
    stack._urls = {"executor": ready, "scheduler": "http://127.0.0.1:9"}
    assert await stack.lacking() == [
        "executor: compiling",
        "scheduler: starting",
    ]
    said[0] = None
    health.check()
    del stack._urls["scheduler"]
    assert await stack.lacking() == []
