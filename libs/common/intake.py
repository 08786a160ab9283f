"""The gate between the bus and a service: what can be read goes on, the rest to `dead.letters`."""

from collections.abc import Sequence
from typing import Any, TypeVar

from libs.common import telemetry, wire
from libs.common.errors import ContractError
from libs.common.messages import Message
from libs.common.ports import Bus, Record
from libs.common.topics import TOPICS
from libs.common.wire import Origin

# Counted from 0: an increase from nothing would be none.
for _topic in TOPICS:
    if _topic.from_apps:
        telemetry.DEAD_LETTERS.labels(_topic.name)

C = TypeVar("C", bound=Any)  # a class of messages.py, or of plimsoll.proto


async def sift(
    records: Sequence[Record], contract: type[C], bus: Bus, origin: Origin
) -> list[tuple[Record, C]]:
    """Return the records that are what `contract` says, each with its message.

    The others are in `dead.letters`, acknowledged, when this returns; none is dropped.
    """
    good: list[tuple[Record, C]] = []
    for record in records:
        try:
            if issubclass(contract, Message):
                good.append((record, wire.decode_json(record, contract)))
            else:
                good.append((record, wire.decode_protobuf(record, contract)))
        except ContractError as error:
            await bury(record, str(error), bus, origin)
    return good


async def bury(record: Record, reason: str, bus: Bus, origin: Origin) -> None:
    """Put one record into `dead.letters` with its reason, and count it."""
    telemetry.DEAD_LETTERS.labels(record.topic).inc()
    await bus.publish([wire.dead_letter(record, reason, origin)])
