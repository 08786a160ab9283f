"""A node's paths for weights, as processor sharing: n transfers get 1/n of the bandwidth each.

All get the same number of bytes, so one running total serves them all: a transfer ends when the
total has grown by its size since it began.
"""

from libs.fleet.agenda import plan
from libs.fleet.jit import kernel
from libs.fleet.tables import LINK_LOOK, NEVER_MS, World, links, replicas

# A transfer ends when less than a tenth of a microsecond of it is left: after weeks, floats tell no
# smaller times apart.
TOLERANCE_MS = 1e-4


@kernel
def _settle(w: World, at: int) -> None:
    link = links(w)[at]
    now_ms = w.now_ms
    if link.n > 0:
        link.total += (now_ms - link.settled_ms) * link.bytes_per_ms / link.n
    link.settled_ms = now_ms


@kernel
def _plan_look(w: World, at: int) -> None:
    link = links(w)[at]
    first = -1
    for r in range(len(replicas(w))):
        replica = replicas(w)[r]
        if replica.link == at and (
            first < 0 or replica.transfer_end < replicas(w)[first].transfer_end
        ):
            first = r
    next_ms = NEVER_MS
    if first >= 0:
        left = max(0.0, replicas(w)[first].transfer_end - link.total)
        next_ms = w.now_ms + left * link.n / link.bytes_per_ms
    if next_ms != link.look_ms and next_ms < NEVER_MS:
        plan(w, next_ms, LINK_LOOK, at, 0)
    link.look_ms = next_ms


@kernel
def begin_transfer(w: World, at: int, r: int, size: float) -> None:
    """Add a transfer of a replica's bytes."""
    _settle(w, at)
    replica = replicas(w)[r]
    replica.link = at
    replica.transfer_end = links(w)[at].total + size
    links(w)[at].n += 1
    _plan_look(w, at)


@kernel
def abandon_transfer(w: World, r: int) -> None:
    """Stop a replica's transfer, if it has one; the others speed up."""
    replica = replicas(w)[r]
    at = replica.link
    if at < 0:
        return
    _settle(w, at)
    replica.link = -1
    links(w)[at].n -= 1
    _plan_look(w, at)


@kernel
def take_ended(w: World, at: int) -> int:
    """Remove one transfer that has ended, and return its replica; -1 when there is none (more)."""
    _settle(w, at)
    link = links(w)[at]
    first = -1
    for r in range(len(replicas(w))):
        replica = replicas(w)[r]
        if replica.link != at:
            continue
        left_ms = (replica.transfer_end - link.total) * link.n / link.bytes_per_ms
        if left_ms <= TOLERANCE_MS and (first < 0 or replica.number < replicas(w)[first].number):
            first = r
    if first >= 0:
        replicas(w)[first].link = -1
        link.n -= 1
    else:
        _plan_look(w, at)
    return first
