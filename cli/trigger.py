"""Announces a lift of a model's load before it comes, on `load.triggers`."""

import re
import time
from typing import NamedTuple

from pydantic import ValidationError

from cli.follow import whole
from cli.produce import send_one
from libs.common.errors import ContractError
from libs.common.messages import LoadTrigger, ModelSpec
from libs.common.ports import Bus, Outgoing
from libs.common.topics import LOAD_TRIGGERS, REGISTRY_MODELS
from libs.common.wire import Origin, decode_json, describe, encode

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Lift(NamedTuple):
    """What was typed."""

    kind: str
    factor: float | None
    rate_rps: float | None
    begins_in_s: float
    lasts_s: float


def seconds(text: str) -> float:
    """Return a duration such as `90`, `90s`, `1.5m`, `2h` or `1d` in seconds.

    Raises:
        ContractError: it is none.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)([smhd]?)", text.strip())
    if found is None:
        raise ContractError(f"{text!r} is no duration such as 90s, 5m, 2h or 1d")
    return float(found[1]) * SECONDS[found[2]]


def trigger(model: str, lift: Lift, now_ms: int) -> LoadTrigger:
    """Return the message that announces a lift of `model`.

    Raises:
        ContractError: a value that no trigger can have.
    """
    fields = {
        "model": model,
        "at_ms": now_ms + round(1000 * lift.begins_in_s),
        "kind": lift.kind,
        "factor": lift.factor,
        "expected_rate_rps": lift.rate_rps,
        "duration_s": lift.lasts_s,
    }
    try:
        return LoadTrigger.model_validate(fields)
    except ValidationError as error:
        raise ContractError(describe(error)) from error


async def announce(bus: Bus, said: LoadTrigger) -> str:
    """Send a trigger, and say where on the log it stands.

    Raises:
        ContractError: its model is not registered; says which are.
    """
    models = await _registered(bus)
    if said.model not in models:
        known = ", ".join(sorted(models)) or "none"
        raise ContractError(f"no model {said.model} is registered; there are: {known}")
    return await send_one(bus, LOAD_TRIGGERS, _outgoing(said))


def in_words(said: LoadTrigger) -> str:
    """Return what a trigger says: `chat: 3 times its load from 14:03:20 UTC, for 120 s`."""
    much = f"{said.factor:g} times its load" if said.factor else f"{said.expected_rate_rps:g}/s"
    begins = time.strftime("%H:%M:%S UTC", time.gmtime(said.at_ms / 1000))
    return f"{said.model}: {much} from {begins}, for {said.duration_s:g} s"


async def _registered(bus: Bus) -> set[str]:
    models: set[str] = set()
    async for record in whole(bus, REGISTRY_MODELS):
        name = (record.key or b"").decode(errors="replace")
        models.discard(name)
        if record.value is None:
            continue
        try:
            models.add(decode_json(record, ModelSpec).name)
        except ContractError:
            continue  # it is the executor's to bury
    return models


def _outgoing(said: LoadTrigger) -> Outgoing:
    now_ms = time.time_ns() // 1_000_000
    origin = Origin("cli", "trigger")
    return encode(LOAD_TRIGGERS, said.model, said, origin, f"{said.model}-{now_ms}", now_ms)
