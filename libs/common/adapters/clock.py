"""The clock of the wall. No decision reads it: the time comes into a core as an argument."""

import asyncio
import time


class WallClock:
    """UTC epoch milliseconds, as the machine tells them."""

    def now_ms(self) -> int:
        """Return the present."""
        return time.time_ns() // 1_000_000

    async def sleep_until_ms(self, at_ms: float) -> None:
        """Return once the clock has reached `at_ms`; at once if it is past."""
        await asyncio.sleep(max(0.0, at_ms / 1000 - time.time()))
