"""Which requests have ended, so that a successor reads again those that have not."""


class Unfinished:
    """The offsets of one partition that are read but not done with, in the order read."""

    def __init__(self) -> None:
        self._open: dict[int, None] = {}  # a dict keeps the order in which it was filled
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def read(self, offset: int) -> bool:
        """Note that a record was read. False when it has been read before: a repeat to be dropped.

        After a rebalance the bus gives again what was read but not committed; it is still in hand.
        """
        if offset < self._next:
            return False
        self._next = offset + 1
        self._open[offset] = None
        return True

    def done(self, offset: int) -> None:
        """Note that what came of a record is acknowledged by the bus."""
        del self._open[offset]

    def resume_from(self) -> int:
        """Return the lowest offset that a successor has to read."""
        return next(iter(self._open), self._next)
