"""Lets every Kafka client of this process pause between two looks for a broker that is away.

aiokafka 0.14 has no such pause: a failed look for metadata asks for the next one at once
(`AIOKafkaClient._get_conn`, `Sender._sender_routine`). On a loopback that makes thousands of
refused connections a second, which take the processor that the broker needs to come back. Faust's
clients are aiokafka's too, so the class itself is mended, once, when this module is loaded.
"""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient

PAUSE_S = 0.2

_look = AIOKafkaClient._metadata_update


async def _look_and_pause(client: AIOKafkaClient, *arguments: Any) -> bool:
    found: bool = await _look(client, *arguments)
    if not found:
        await asyncio.sleep(PAUSE_S)
    return found


AIOKafkaClient._metadata_update = _look_and_pause
