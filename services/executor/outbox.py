"""What waits to be published. The fleet goes on while a broker is away, and nothing is lost."""

import asyncio
from collections.abc import Callable, Sequence

from libs.common.ports import Bus, Outgoing


class Outbox:
    """Messages in order, published by one task, all that has gathered at once.

    It refuses nothing: whoever fills it asks `full` first, and holds back what can wait.
    """

    def __init__(self, bus: Bus, full_at: int) -> None:
        self._bus = bus
        self._full_at = full_at
        self._waiting: list[tuple[Sequence[Outgoing], Callable[[], None] | None]] = []
        self._messages = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Messages not acknowledged yet."""
        return self._messages

    @property
    def full(self) -> bool:
        """Whether as many messages wait as may."""
        return self._messages >= self._full_at

    def put(self, messages: Sequence[Outgoing], then: Callable[[], None] | None = None) -> None:
        """Add messages, if there are any; `then` is called once all of them are acknowledged."""
        if not messages:
            return
        self._waiting.append((messages, then))
        self._messages += len(messages)
        self._filled.set()

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            taken, self._waiting = self._waiting, []
            batch = [message for messages, _ in taken for message in messages]
            await self._bus.publish(batch)
            self._messages -= len(batch)
            for _, then in taken:
                if then is not None:
                    then()
