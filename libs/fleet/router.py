"""The router: one queue a model, the table it follows, and the requests it sends to the fleet.

The law by which it chooses is in `routing.py`; here it is kept fed. The executor and the benchmark
share it. Every request that arrives comes back as exactly one `End`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from libs.common.messages import BatchLaw, ModelSpec, RoutingTable
from libs.fleet.events import BatchEnded, Event, HandedBack, Loaded, Request
from libs.fleet.fleet import Fleet
from libs.fleet.routing import choose

NEVER_MS = float("inf")
# Before a first table names a part of the objective; without one there is no replica to choose.
THETA = 0.7


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
    events: list[Event]


@dataclass(slots=True, eq=False)
class _Lane:
    """A model: what it promises, and who waits for it."""

    spec: ModelSpec
    queue: deque[Request] = field(default_factory=deque)
    in_fleet: int = 0
    registered: bool = True


class Router:
    """Moves the fleet on, and gives it requests by the tables. Deterministic, as the fleet is."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lanes: dict[str, _Lane] = {}
        self._tables: dict[str, RoutingTable] = {}  # may come before their models
        self._ends: list[End] = []

    @property
    def models(self) -> dict[str, ModelSpec]:
        """The models registered now."""
        return {name: lane.spec for name, lane in self._lanes.items() if lane.registered}

    def knows(self, model: str) -> bool:
        """Whether a request for this model can be taken."""
        lane = self._lanes.get(model)
        return lane is not None and lane.registered

    def register(self, spec: ModelSpec) -> None:
        """Add a model, or change what is promised of it. Replicas there keep their old spec."""
        lane = self._lanes.setdefault(spec.name, _Lane(spec))
        lane.spec, lane.registered = spec, True

    def forget(self, model: str) -> None:
        """Remove a model: who waits is rejected, who runs is served."""
        lane = self._lanes.get(model)
        if lane is not None:
            lane.registered = False
            self._reject_all(lane)

    def follow(self, table: RoutingTable) -> bool:
        """Take a table, unless one of a higher (epoch, tick) is in force: then return False."""
        old = self._tables.get(table.model)
        if old is not None and (table.epoch, table.tick) < (old.epoch, old.tick):
            return False
        left = {route.replica for route in old.replicas} if old else set()
        for route in table.replicas:
            left.discard(route.replica)
            if route.replica in self._fleet.replicas:
                self._fleet.set_concurrency(route.replica, route.concurrency)
        for name in sorted(left & self._fleet.replicas.keys()):
            self._fleet.set_concurrency(name, 0)
        self._tables[table.model] = table
        return True

    def queued(self, model: str) -> int:
        """Return the requests that no replica runs yet."""
        return len(self._lanes[model].queue) + self._lanes[model].in_fleet - self.running(model)

    def running(self, model: str) -> int:
        """Return the requests of a model in running batches."""
        replicas = self._fleet.replicas.values()
        return sum(replica.running for replica in replicas if replica.spec.name == model)

    def next_event_ms(self) -> float:
        """Return the time before which a turn does nothing, unless something new comes."""
        return min(self._fleet.next_event_ms(), self._next_rejection_ms())

    def turn(self, until_ms: float, arrivals: Sequence[Request] = ()) -> Turn:
        """Play up to `until_ms`, then take `arrivals`, of registered models, at that moment."""
        events = self._play(until_ms)
        for request in arrivals:
            self._lanes[request.model].queue.append(request)
        self._pump()
        events += self._play(until_ms)  # batches that can start at once
        ends, self._ends = self._ends, []
        return Turn(ends, events)

    def _play(self, until_ms: float) -> list[Event]:
        """Move on event by event, so that what an event frees is used at that very moment."""
        events: list[Event] = []
        while (at_ms := self.next_event_ms()) <= until_ms:
            happened = self._fleet.advance(max(at_ms, self._fleet.now_ms))
            self._absorb(happened)
            events += happened
            self._pump()
        events += self._fleet.advance(until_ms)
        return events

    def _absorb(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, BatchEnded):
                self._lanes[event.model].in_fleet -= len(event.requests)
                self._end_batch(event)
            elif isinstance(event, HandedBack):
                lane = self._lanes[event.model]
                lane.in_fleet -= len(event.requests)
                lane.queue.extendleft(reversed(event.requests))  # they came first
                if not lane.registered:
                    self._reject_all(lane)
            elif isinstance(event, Loaded):
                self._apply_concurrency(event.model, event.replica)

    def _apply_concurrency(self, model: str, replica: str) -> None:
        """Give a replica what a table written before it came says of it."""
        table = self._tables.get(model)
        for route in table.replicas if table else ():
            if route.replica == replica and replica in self._fleet.replicas:
                self._fleet.set_concurrency(replica, route.concurrency)

    def _pump(self) -> None:
        for lane in self._lanes.values():
            while lane.queue and self._send_first(lane):
                pass

    def _send_first(self, lane: _Lane) -> bool:
        """Send or reject the first in the queue; False when it has to wait."""
        request = lane.queue[0]
        objective_ms = lane.spec.objective.latency_ms
        reject_late = lane.spec.on_late == "reject"
        table = self._tables.get(lane.spec.name)
        routes = table.replicas if table else ()
        choice = choose(
            (self._fleet.outlook(route.replica) for route in routes),
            waited_ms=self._fleet.now_ms - request.due_at_ms,
            objective_ms=objective_ms,
            theta=table.theta if table else THETA,
            reject_late=reject_late,
        )
        hopeless = reject_late and self._hopeless_from_ms(lane, request) <= self._fleet.now_ms
        if choice == "reject" or (choice == "wait" and hopeless):
            self._reject(lane, lane.queue.popleft(), "cannot meet its objective any more")
        elif choice == "wait":
            return False
        else:
            lane.in_fleet += 1
            self._fleet.dispatch(routes[choice].replica, lane.queue.popleft())
        return True

    def _next_rejection_ms(self) -> float:
        waiting = (
            self._hopeless_from_ms(lane, lane.queue[0])
            for lane in self._lanes.values()
            if lane.queue and lane.spec.on_late == "reject"
        )
        return min(waiting, default=NEVER_MS)

    def _hopeless_from_ms(self, lane: _Lane, request: Request) -> float:
        """Return when even the fastest device, at once, would be too late."""
        fastest_ms = min(
            law.alpha_ms + law.beta_ms
            for law in lane.spec.law.values()
            if isinstance(law, BatchLaw)
        )
        return request.due_at_ms + lane.spec.objective.latency_ms - fastest_ms

    def _end_batch(self, batch: BatchEnded) -> None:
        objective_ms = self._lanes[batch.model].spec.objective.latency_ms
        for request in batch.requests:
            latency_ms = max(0.0, batch.at_ms - request.due_at_ms)
            self._ends.append(
                End(
                    request,
                    "ok" if latency_ms <= objective_ms else "late",
                    batch.at_ms,
                    latency_ms,
                    objective_ms,
                    batch.replica,
                    len(batch.requests),
                )
            )

    def _reject_all(self, lane: _Lane) -> None:
        while lane.queue:
            self._reject(lane, lane.queue.popleft(), "the model was removed")

    def _reject(self, lane: _Lane, request: Request, reason: str) -> None:
        now_ms = self._fleet.now_ms
        latency_ms = max(0.0, now_ms - request.due_at_ms)
        objective_ms = lane.spec.objective.latency_ms
        self._ends.append(End(request, "rejected", now_ms, latency_ms, objective_ms, reason=reason))
