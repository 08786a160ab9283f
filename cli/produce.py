"""Makes a record out of JSON that a person typed, checked by its topic's contract, and sends it."""

import time

import orjson
from pydantic import ValidationError

from libs.common.errors import ContractError
from libs.common.messages import AppSamples, Message
from libs.common.ports import Bus, Outgoing, Start
from libs.common.topics import BY_NAME, METRICS_SAMPLES, Topic
from libs.common.wire import JSON, Origin, describe, encode

READ_BACK_WITHIN_S = 5.0
# The field of a contract that is its record's key, where it is not named as the topic table has it.
KEY_FIELDS = ("item", "request_id", "order_id", "command_id", "device", "node", "model", "name")


def topic_named(name: str) -> Topic:
    """Return a topic of the table.

    Raises:
        ContractError: there is none of that name; says which there are.
    """
    if name not in BY_NAME:
        raise ContractError(f"no topic {name}; there are {', '.join(sorted(BY_NAME))}")
    return BY_NAME[name]


def outgoing(topic: Topic, text: str, *, key: str | None = None, raw: bool = False) -> Outgoing:
    """Return the record of a JSON message; `raw` takes any text, for trying what happens then.

    Raises:
        ContractError: not JSON, not as the contract says, or the topic takes no JSON.
    """
    if raw:
        return Outgoing(topic.name, key or "", text.encode(), {"content-type": JSON})
    contract = AppSamples if topic is METRICS_SAMPLES else topic.contract
    if contract is None or not issubclass(contract, Message):
        raise ContractError(f"{topic.name} carries no JSON; --raw sends it anyway")
    try:
        message = contract.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        raise ContractError(f"not JSON: {error}") from error
    except ValidationError as error:
        raise ContractError(describe(error)) from error
    chosen = key if key is not None else key_of(message)
    now_ms = time.time_ns() // 1_000_000
    if topic is METRICS_SAMPLES:
        return Outgoing(topic.name, chosen, text.encode(), {"content-type": JSON})
    return encode(topic, chosen, message, Origin("cli", "produce"), f"{chosen}-{now_ms}", now_ms)


async def send_one(bus: Bus, topic: Topic, sent: Outgoing) -> str:
    """Publish a message, and say where on the log it stands, as `partition 0 offset 17`.

    Raises:
        ContractError: the broker refuses it, as it does above its size limit.
    """
    async with bus.tail([topic], Start.LATEST) as reader:
        try:
            await bus.publish([sent])
        except RuntimeError as error:  # what the client library's errors are
            raise ContractError(f"the broker refuses it: {error}") from error
        until = time.monotonic() + READ_BACK_WITHIN_S
        while time.monotonic() < until:
            for record in await reader.poll(0.2):
                if (record.key, record.value) == (sent.key.encode(), sent.value):
                    return f"partition {record.partition} offset {record.offset}"
    return "acknowledged, but not read back yet"


def key_of(message: Message) -> str:
    """Return what a message is keyed by in the topic table."""
    for name in KEY_FIELDS:
        if value := getattr(message, name, ""):
            return str(value)
    if isinstance(message, AppSamples):
        return message.samples[0].model
    return "leader"  # scheduler.leader, the one contract that is keyed by a constant
