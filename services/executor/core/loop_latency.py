"""How long the loop takes: a sample is taken, and a tick that has seen it comes back."""

from collections import deque

# Ten minutes of samples: without a scheduler nothing comes back, and the oldest are let go.
PENDING_MAX = 6000


class LoopLatency:
    """Samples on their way round. A sample's latency ends with the first tick that covers it."""

    def __init__(self) -> None:
        self._pending_ms: deque[int] = deque(maxlen=PENDING_MAX)

    def taken(self, at_ms: int) -> None:
        """Note the time of a sample; times grow."""
        self._pending_ms.append(at_ms)

    def covered(self, seen_until_ms: int, now_ms: int) -> list[int]:
        """Return the latencies, in ms, of the samples that this tick is the first to cover."""
        latencies = []
        while self._pending_ms and self._pending_ms[0] <= seen_until_ms:
            latencies.append(now_ms - self._pending_ms.popleft())
        return latencies
