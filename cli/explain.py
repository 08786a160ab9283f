"""Why a model is as it is: what the scheduler said of it, and what held at a given time."""

import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cli.follow import whole
from cli.trigger import seconds
from libs.common.errors import ContractError
from libs.common.messages import ALL, Explanation
from libs.common.ports import Bus
from libs.common.topics import DECISIONS_EXPLAINED
from libs.common.wire import read

SHOWN = 10
# What each kind of decision settles; of each the newest one holds until the next.
KINDS = {
    "override": "set by a person",
    "hold": "data",
    "scale": "replicas",
    "batch": "batches",
    "theta": "packing",
    "foreign": "not by us",
    "shadow": "in shadow",
}


def when_ms(text: str, now_ms: int) -> int:
    """Return the time that is meant: `14:03[:20]` (UTC, the last one), `-5m`, or ISO 8601.

    Raises:
        ContractError: none is.
    """
    if text.startswith("-"):
        return now_ms - round(1000 * seconds(text[1:]))
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    try:
        if found := re.fullmatch(r"(\d{1,2}):(\d\d)(?::(\d\d))?", text):
            hour, minute, second = (int(part or 0) for part in found.groups())
            at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
            at -= timedelta(days=at > now)
        else:
            at = datetime.fromisoformat(text)
            at = at.replace(tzinfo=at.tzinfo or UTC)
    except ValueError as error:
        raise ContractError(
            f"{text!r} is no time such as 14:03, -5m or 2025-11-25T14:03"
        ) from error
    return int(at.timestamp() * 1000)


async def explained(bus: Bus) -> AsyncIterator[Explanation]:
    """Yield what the scheduler has said, oldest first; what cannot be read is passed over."""
    async for record in whole(bus, DECISIONS_EXPLAINED):
        with suppress(ContractError):
            message = read(record)
            if isinstance(message, Explanation):
                yield message


async def said_of(bus: Bus, target: str, until_ms: int) -> list[Explanation]:
    """Return what was said of a model or node until then, oldest first; of all models, too.

    Raises:
        ContractError: nothing was; says what to do.
    """
    found, others = [], set()
    async for message in explained(bus):
        others.add(message.model)
        if message.model in (target, ALL) and message.at_ms <= until_ms:
            found.append(message)
    if any(why.model == target for why in found):
        return found
    if target in others:
        raise ContractError(f"nothing was said of {target} until then; try a later --at")
    if others:
        raise ContractError(
            f"nothing was said of {target} in the last day; there is {', '.join(sorted(others))}"
        )
    raise ContractError("no decision was explained in the last day: does a scheduler run?")


def in_words(said: Sequence[Explanation], at_ms: int | None) -> str:
    """Return the newest decisions as lines; with `at_ms`, what held then, by kind."""
    if at_ms is None:
        return "\n".join(_line(why) for why in said[-SHOWN:])
    lines = [f"What held at {_clock(at_ms)}:"]
    for kind, title in KINDS.items():
        # A person may have set several things, each of another target.
        newest = {why.model: why for why in said if why.action == kind}
        for why in newest.values():
            if why.bound != "operator_ended":
                lines.append(f"  {title}, since {_line(why)}")
    return "\n".join(lines)


def _line(why: Explanation) -> str:
    bound = why.bound.replace("_", " ")
    done = f"; {len(why.commands)} command{'' if len(why.commands) == 1 else 's'}"
    return f"{_clock(why.at_ms)}  {why.text}  [bound: {bound}{done if why.commands else ''}]"


def _clock(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ms / 1000))
