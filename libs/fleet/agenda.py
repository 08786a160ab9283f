"""What falls due and when: events in a heap, and what is to be looked at before time goes on.

Events come by (time, order in which they were planned), so that a run repeats exactly. A plan is
never withdrawn: where it may have lost its meaning, its ticket is out of date.
"""

from libs.fleet.jit import entry, kernel
from libs.fleet.tables import LOOK, World, gpus, heap, lanes, looks, models


@entry
def plan(w: World, at_ms: float, kind: int, subject: int, ticket: int) -> None:
    """Add an event."""
    head = w
    due = heap(w)
    head.order += 1
    place = head.n_heap
    head.n_heap += 1
    while place > 0:
        above = (place - 1) >> 1
        if due[above].at_ms <= at_ms:  # of two at one time, the first planned comes first
            break
        due[place] = due[above]
        place = above
    event = due[place]
    event.at_ms = at_ms
    event.order = head.order
    event.kind = kind
    event.subject = subject
    event.ticket = ticket


@kernel
def drop_first(w: World) -> None:
    """Remove the event that falls due first."""
    head = w
    due = heap(w)
    head.n_heap -= 1
    n = head.n_heap
    if n == 0:
        return
    at_ms, order = due[n].at_ms, due[n].order
    place = 0
    while True:
        below = 2 * place + 1
        if below >= n:
            break
        other = below + 1
        if other < n and (
            due[other].at_ms < due[below].at_ms
            or (due[other].at_ms == due[below].at_ms and due[other].order < due[below].order)
        ):
            below = other
        if at_ms < due[below].at_ms or (at_ms == due[below].at_ms and order < due[below].order):
            break
        due[place] = due[below]
        place = below
    due[place] = due[n]


@entry
def look_soon(w: World, g: int) -> None:
    """Look at a GPU before time goes on. Of a busy one nothing comes, so it may be left out."""
    head = w
    gpu = gpus(w)[g]
    if not gpu.looked_for:
        gpu.looked_for = 1
        ring = looks(w)
        place = head.first_look + head.n_looks  # no modulo: a division is slow
        ring[place - len(ring) if place >= len(ring) else place] = g
        head.n_looks += 1


@kernel
def look_at(w: World, g: int, at_ms: float) -> None:
    """Look at a GPU at a later time, unless a look at or before it is planned."""
    gpu = gpus(w)[g]
    if at_ms < gpu.look_ms:
        gpu.look_ms = at_ms
        plan(w, at_ms, LOOK, g, 0)


@entry
def lane_soon(w: World, m: int) -> None:
    """See before time goes on whether the first request in a model's queue can be sent."""
    head = w
    model = models(w)[m]
    if not model.looked_for:
        model.looked_for = 1
        ring = lanes(w)
        place = head.first_lane + head.n_lanes
        ring[place - len(ring) if place >= len(ring) else place] = m
        head.n_lanes += 1
