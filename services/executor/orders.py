"""Carries commands out on the fleet, and says of each what became of it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from libs.common.messages import Ack, PlaceReplica, ScaleModel, SetBatch
from libs.fleet.model import FleetError, FleetModel, Gone, Loaded, replica_name
from libs.fleet.router import Router
from services.executor import telemetry
from services.executor.core.commands import Floor, admit, parse_id

Command = ScaleModel | PlaceReplica | SetBatch
# Answers kept for commands that come again: ten minutes of a large fleet's.
REMEMBERED = 10_000


class _Pending(NamedTuple):
    """A placement whose effect is still to come."""

    topic: str
    command_id: str
    action: Literal["load", "drain", "unload", "to_host"]
    sent_ms: int


class Orders:
    """The gate for commands, and those whose effect is still to come.

    Before each command the caller brings the fleet up to now and passes its events to `happened`,
    so that the end of one replica is not taken for that of the next one of its name.
    """

    def __init__(self, fleet: FleetModel, router: Router) -> None:
        self._fleet = fleet
        self._router = router
        self._floors: dict[str, Floor] = {}
        self._answers: dict[str, Ack] = {}  # the last about each command
        self._pending: dict[str, list[_Pending]] = {}  # by replica
        self.epoch = 0  # the highest of any leader seen: what is below is not acted on

    def saw_leader(self, epoch: int) -> None:
        """Note that a leader of this epoch has been elected."""
        self.epoch = max(self.epoch, epoch)

    def take(self, topic: str, command: Command, sent_ms: int, now_ms: int) -> list[Ack]:
        """Act on a command if it is new; return what there is to say at once.

        Raises:
            ContractError: its id is none.
        """
        command_id = parse_id(command.id)
        if command.id in self._answers:
            return [self._answers[command.id]]
        floor = self._floors.get(topic, Floor()).raised(self.epoch)
        self._floors[topic], verdict = admit(floor, command_id)
        self.saw_leader(command_id[0])
        placed = _Pending(topic, command.id, getattr(command, "action", "load"), sent_ms)
        if verdict == "stale":
            telemetry.STALE.labels(topic).inc()
            return [self._answer(placed, now_ms, "failed", f"stale: epoch {self.epoch} leads")]
        if verdict == "repeat":
            return [self._answer(placed, now_ms, "failed", f"{floor.last} was applied before it")]
        accepted = self._answer(placed, now_ms, "accepted")
        try:
            if isinstance(command, PlaceReplica) and not self._place(command):
                self._pending.setdefault(command.replica, []).append(placed)
                return [accepted]
            if isinstance(command, SetBatch):
                self._set_batch(command)
        except FleetError as error:
            return [accepted, self._answer(placed, now_ms, "failed", str(error))]
        # A `ScaleModel` is met by placements: it holds once it is known.
        return [accepted, self._answer(placed, now_ms, "done")]

    def happened(self, events: Sequence[Loaded | Gone], now_ms: int) -> list[Ack]:
        """Return what there is to say of commands whose effect holds now, or never will."""
        answers = []
        for event in events:
            for placed in self._pending.pop(event.replica, []):
                if isinstance(event, Gone) and placed.action == "load":
                    reason = f"gone before it was resident: {event.reason}"
                    answers.append(self._answer(placed, now_ms, "failed", reason))
                else:
                    answers.append(self._answer(placed, now_ms, "done"))
        return answers

    def _place(self, command: PlaceReplica) -> bool:
        """Begin a placement; True when its effect holds already."""
        name = replica_name(command.model, command.node, command.gpus)
        if command.replica != name:
            raise FleetError(f"replica {command.replica!r} should be {name!r}")
        there = self._fleet.replicas.get(name)
        if command.action == "load":
            if there is not None and there.state != "draining":
                return there.state == "resident"
            # Until the scheduler says more: one request at a time, none from the router.
            self._fleet.load(command.model, command.node, command.gpus, concurrency=0, batch_size=1)
        elif there is None:
            return True
        elif command.action == "to_host":
            if there.state == "host":
                return True
            self._fleet.to_host(name)
        elif command.action == "drain":
            self._fleet.drain(name)
        else:
            self._fleet.unload(name)
        return False

    def _set_batch(self, command: SetBatch) -> None:
        if command.replica not in self._fleet.replicas:
            raise FleetError(f"unknown replica {command.replica!r}")
        self._fleet.set_batch(
            command.replica, command.batch_size, command.wait_ms, command.serving_share
        )

    def _answer(
        self,
        placed: _Pending,
        now_ms: int,
        status: Literal["accepted", "done", "failed"],
        reason: str = "",
    ) -> Ack:
        telemetry.COMMANDS.labels(placed.topic, status).inc()
        telemetry.COMMAND_LATENCY.labels(status).observe(max(0, now_ms - placed.sent_ms) / 1000)
        ack = Ack(command_id=placed.command_id, status=status, reason=reason, at_ms=now_ms)
        self._answers[placed.command_id] = ack
        if len(self._answers) > REMEMBERED:
            del self._answers[next(iter(self._answers))]
        return ack
