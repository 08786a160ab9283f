"""The fleet's sense of time: what is due, in order, and what has happened so far."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from libs.fleet.events import Event

NEVER_MS = float("inf")


class Timeline:
    """Due acts by (time, order in which they were planned), so that a run repeats exactly."""

    def __init__(self, at_ms: float) -> None:
        self.now_ms = float(at_ms)
        self.changed: set[str] = set()  # nodes where replicas came, went or changed state
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._order = itertools.count()
        self._happened: list[Event] = []

    def at(self, at_ms: float, act: Callable[[Any], None], subject: Any) -> None:
        """Plan `act(subject)`. A plan is never withdrawn: the act sees whether it still applies."""
        heapq.heappush(self._due, (at_ms, next(self._order), act, subject))

    def tell(self, event: Event) -> None:
        """Add what the next `advance` returns."""
        self._happened.append(event)

    def next_ms(self) -> float:
        """Return when the next act is due; now, when something has happened already."""
        if self._happened:
            return self.now_ms
        return max(self.now_ms, self._due[0][0]) if self._due else NEVER_MS

    def advance(self, until_ms: float) -> list[Event]:
        """Do all that is due up to and including `until_ms`; return what happened, in order."""
        assert until_ms >= self.now_ms, (until_ms, self.now_ms)
        while self._due and self._due[0][0] <= until_ms:
            at_ms, _, act, subject = heapq.heappop(self._due)
            self.now_ms = max(self.now_ms, at_ms)
            act(subject)
        self.now_ms = float(until_ms)
        happened, self._happened = self._happened, []
        return happened
