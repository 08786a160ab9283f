"""Which commands are acted on: each once, and none of a leader that has been replaced.

A command's id is `epoch-tick-position`. On a topic ids only grow, and epochs grow with leaders: the
last id and the highest epoch are enough to know.
"""

from typing import Literal, NamedTuple

from libs.common.errors import ContractError

CommandId = tuple[int, int, int]
Verdict = Literal["apply", "repeat", "stale"]


class Floor(NamedTuple):
    """What lies behind us on one topic of commands."""

    epoch: int = 0  # the highest seen of any leader, on any topic
    last: CommandId = (-1, -1, -1)  # the last command that was admitted on this topic

    def raised(self, epoch: int) -> "Floor":
        """Return the floor after a leader of this epoch was seen."""
        return self._replace(epoch=max(self.epoch, epoch))


def parse_id(command_id: str) -> CommandId:
    """Return a command's id as three integers, to be compared as a tuple.

    Raises:
        ContractError: it is not `epoch-tick-position`.
    """
    parts = command_id.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ContractError(f"id: {command_id!r} is not epoch-tick-position")
    epoch, tick, position = map(int, parts)
    return epoch, tick, position


def admit(floor: Floor, command: CommandId) -> tuple[Floor, Verdict]:
    """Decide on one command, and return the floor for those after it.

    "stale": of an epoch below the floor, and so of a leader that leads no more. "repeat": at or
    below the last one admitted, so it was acted on when it first came. Else "apply".
    """
    if command[0] < floor.epoch:
        return floor, "stale"
    if command <= floor.last:
        return floor, "repeat"
    return Floor(command[0], command), "apply"
