"""The containers of the compose stack, through the `docker` command."""

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

from cli.local.processes import LocalError

ROOT = Path(__file__).parents[1]


class Container(NamedTuple):
    """One running container, with the check by which Docker finds it healthy."""

    id: str
    name: str
    started_at: str
    check: tuple[str, ...]

    async def kill(self) -> None:
        """Kill everything in it at once, as a crash would: its restart policy then holds.

        `docker kill` would count as stopped by a person. Signals do not reach process 1 from
        within, but that one is Docker's init, which ends when its child does.
        """
        await _docker("exec", self.id, "sh", "-c", "kill -9 -1", may_fail=True)

    async def is_back(self) -> bool:
        """Return whether it was started again, and its own health check holds."""
        state = json.loads(await _docker("inspect", "--format", "{{json .State}}", self.id))
        if not state["Running"] or state["StartedAt"] == self.started_at:
            return False
        try:
            await _docker("exec", self.id, *self.check)
        except LocalError:
            return False
        return True


async def compose(*arguments: str) -> str:
    """Run `docker compose` on this project; return what it prints. Raises LocalError."""
    return await _docker("compose", *arguments)


async def containers_of() -> list[Container]:
    """Return the running containers that have a health check, by name. Raises LocalError."""
    ids = (await compose("ps", "--quiet")).split()
    if not ids:
        raise LocalError("the stack is not up: `make up` brings it up")
    found = []
    for one in json.loads(await _docker("inspect", *ids)):
        check = one["Config"].get("Healthcheck", {}).get("Test", ["NONE"])
        if one["State"]["Running"] and check[0] == "CMD":
            name = one["Name"].lstrip("/").removeprefix("plimsoll-")
            started_at = one["State"]["StartedAt"]
            found.append(Container(one["Id"], name, started_at, tuple(check[1:])))
    return sorted(found, key=lambda container: container.name)


async def _docker(*arguments: str, may_fail: bool = False) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "docker",
            *arguments,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise LocalError("docker is not installed here") from error
    said, complaint = await process.communicate()
    if process.returncode and not may_fail:
        raise LocalError(f"docker {' '.join(arguments[:3])}: {complaint.decode().strip()[-500:]}")
    return said.decode()
