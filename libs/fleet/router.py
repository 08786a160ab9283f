"""Requests that come one by one, with names, and the ends that they come to: for the executor.

The queues and the law by which a replica is chosen are in the fleet's model (`choice.py`); here its
rows get their requests' names back. Every request that arrives comes back as exactly one `End`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from libs.common.messages import ModelSpec, RoutingTable
from libs.fleet import tables as t
from libs.fleet.model import FleetModel, Gone, Loaded

STATUS: dict[int, Literal["ok", "late", "rejected"]] = {
    t.OK: "ok",
    t.LATE: "late",
    t.REJECTED: "rejected",
}


class Request(NamedTuple):
    """One request on its way."""

    request_id: str
    model: str
    due_at_ms: float
    place: tuple[int, int]  # partition and offset that it came from
    prompt_tokens: int = 0
    output_tokens: int = 0
    max_tokens: int = 0


class End(NamedTuple):
    """The one end of a request."""

    request: Request
    status: Literal["ok", "late", "rejected"]
    at_ms: float
    latency_ms: float  # due to ended
    objective_ms: float
    replica: str = ""
    batch_size: int = 0
    reason: str = ""


class Turn(NamedTuple):
    """What a turn of the router brought."""

    ends: list[End]
    events: list[Loaded | Gone]


class Router:
    """Moves the fleet on, and gives it requests. Deterministic, as the fleet is."""

    def __init__(self, fleet: FleetModel) -> None:
        self._fleet = fleet
        self._open: dict[int, Request] = {}  # by row of the fleet's table

    @property
    def models(self) -> dict[str, ModelSpec]:
        """The models registered now."""
        return {spec.name: spec for spec in self._fleet.specs if self.knows(spec.name)}

    def knows(self, model: str) -> bool:
        """Whether a request for this model can be taken."""
        return self._fleet.knows(model)

    def register(self, spec: ModelSpec) -> None:
        """Add a model, or change what is promised of it. Replicas there keep their old spec."""
        self._fleet.register(spec)

    def forget(self, model: str) -> None:
        """Remove a model: who waits is rejected, who runs is served."""
        self._fleet.forget(model)

    def follow(self, table: RoutingTable) -> bool:
        """Take a table, unless one of a higher (epoch, tick) is in force: then return False."""
        return self._fleet.follow(table)

    def queued(self, model: str) -> int:
        """Return the requests that no replica runs yet."""
        return int(self._fleet.models["queue"][self._fleet.model_index[model]])

    def running(self, model: str) -> int:
        """Return the requests of a model in running batches."""
        return int(self._fleet.models["in_flight"][self._fleet.model_index[model]])

    def next_event_ms(self) -> float:
        """Return the time before which a turn does nothing, unless something new comes."""
        return self._fleet.next_event_ms()

    def turn(self, until_ms: float, arrivals: Sequence[Request] = ()) -> Turn:
        """Play up to `until_ms`, then take `arrivals`, of registered models, at that moment."""
        self._fleet.advance(until_ms)
        ends = self._take_ends()
        if arrivals:
            for request in arrivals:
                row = self._fleet.enter(
                    request.model,
                    request.due_at_ms,
                    request.prompt_tokens,
                    request.output_tokens,
                    request.max_tokens,
                )
                self._open[row] = request
            self._fleet.advance(until_ms)  # what can start at once, does
            ends += self._take_ends()
        return Turn(ends, self._fleet.take_events())

    def _take_ends(self) -> list[End]:
        return [self._end(row) for row in self._fleet.take_ended()]

    def _end(self, row: int) -> End:
        request, record = self._open.pop(row), self._fleet.requests[row]
        spec = self._fleet.specs[int(record["model"])]
        ended_ms = self._fleet.start_ms + float(record["ended_ms"])
        latency_ms = max(0.0, float(record["ended_ms"] - record["due_ms"]))
        status = STATUS[int(record["status"])]
        if status == "rejected":
            reason = self._why_rejected(request, spec)
            return End(
                request, status, ended_ms, latency_ms, spec.objective.latency_ms, reason=reason
            )
        return End(
            request,
            status,
            ended_ms,
            latency_ms,
            spec.objective.latency_ms,
            self._fleet.replica_names[int(record["replica"])],
            int(record["batch_size"]),
        )

    def _why_rejected(self, request: Request, spec: ModelSpec) -> str:
        if not self.knows(spec.name):
            return "the model was removed"
        if spec.kind == "llm" and request.prompt_tokens >= spec.kv_tokens:
            return f"its prompt of {request.prompt_tokens} tokens fits into no KV cache"
        return "cannot meet its objective any more"
