"""A human hand: what a person sets on `operator.overrides`, ends, and sees there."""

import getpass
import time
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError
from rich.table import Table

from cli.follow import whole
from cli.produce import send_one
from libs.common.errors import ContractError
from libs.common.messages import ALL, DeviceSpec, ModelSpec, Override
from libs.common.ports import Bus, Outgoing
from libs.common.topics import OPERATOR_OVERRIDES, REGISTRY_DEVICES, REGISTRY_MODELS, Topic
from libs.common.wire import Origin, describe, encode, read
from services.scheduler.overrides import holds, in_words_of, until, what

ORIGIN = Origin("cli", "override")
LASTS_MAX_S = 10 * 366 * 86_400.0  # for longer is for ever
M = TypeVar("M")


def override(now_ms: int, lasts_s: float | None, **fields: object) -> Override:
    """Return the message of what was typed; `lasts_s` None: until it is resumed.

    Raises:
        ContractError: a value that no override can have.
    """
    if lasts_s is not None and not 0 < lasts_s <= LASTS_MAX_S:
        raise ContractError("an override lasts more than 0 s and at most ten years")
    until_ms = None if lasts_s is None else now_ms + round(1000 * lasts_s)
    try:
        return Override.model_validate({**fields, "until_ms": until_ms})
    except ValidationError as error:
        raise ContractError(describe(error)) from error


def who(given: str) -> str:
    """Return who sets it: as given, else whoever is logged in.

    Raises:
        ContractError: nobody is.
    """
    try:
        return given or getpass.getuser()
    except (KeyError, OSError) as error:
        raise ContractError("say who you are: --by NAME") from error


async def put(bus: Bus, said: Override) -> str:
    """Send an override, and say where on the log it stands.

    Raises:
        ContractError: its target is not registered; says what is.
    """
    models = set(await _newest(bus, REGISTRY_MODELS, ModelSpec))
    devices = await _newest(bus, REGISTRY_DEVICES, DeviceSpec)
    nodes = {device.node for device in devices.values()}
    kind, known = ("node", nodes) if said.kind == "cordon" else ("model", models)
    if said.target not in known | ({ALL} if said.kind == "pause" else set()):
        there_are = ", ".join(sorted(known)) or "none"
        raise ContractError(f"no {kind} {said.target} is registered; there are: {there_are}")
    now_ms = time.time_ns() // 1_000_000
    event_id = f"{said.target}-{now_ms}"
    return await send_one(
        bus,
        OPERATOR_OVERRIDES,
        encode(OPERATOR_OVERRIDES, said.target, said, ORIGIN, event_id, now_ms),
    )


async def resume(bus: Bus, target: str, now_ms: int) -> str:
    """End what holds of a target, and say what it was.

    Raises:
        ContractError: nothing does; says what it does of.
    """
    standing = await in_force(bus, now_ms)
    if target not in standing:
        there_are = ", ".join(sorted(standing)) or "none"
        raise ContractError(f"nothing is set of {target}; there are: {there_are}")
    await bus.publish([Outgoing(OPERATOR_OVERRIDES.name, target, None)])
    ended = f"{target}: no longer {what(standing[target])}, as {standing[target].by} had set it"
    if target != ALL and ALL in standing:
        ended += f"; it stays paused with all, by {standing[ALL].by}"
    return ended


async def in_force(bus: Bus, now_ms: int) -> dict[str, Override]:
    """Return what holds now, by target."""
    found = await _newest(bus, OPERATOR_OVERRIDES, Override)
    return {target: said for target, said in found.items() if holds(said, now_ms)}


async def _newest(bus: Bus, topic: Topic, contract: type[M]) -> dict[str, M]:
    """Return the newest message of each key; what cannot be read is somebody else's to bury."""
    found: dict[str, M] = {}
    async for record in whole(bus, topic):
        key = (record.key or b"").decode(errors="replace")
        try:
            message = read(record)
        except ContractError:
            continue
        if message is None:
            found.pop(key, None)
        elif isinstance(message, contract):
            found[key] = message
    return found


# --- Shown ----------------------------------------------------------------------------------------


def in_words(said: Override) -> str:
    """Return `chat: paused by ada until 2025-11-25 14:33:00 UTC (load test)`."""
    return f"{said.target}: {in_words_of(said)}"


def to_table(standing: Mapping[str, Override]) -> Table:
    """Return a row for each override."""
    shown = Table("target", "what", "by", "until", "reason")
    for target in sorted(standing):
        said = standing[target]
        shown.add_row(target, what(said), said.by, until(said), said.reason)
    return shown
