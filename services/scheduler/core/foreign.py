"""Replicas that came or went without an order of ours: somebody else is at work, or one died.

Such a change is no fault: the next ticks plan with what is there. But two that scale the same
replicas undo each other's work, so it is said.
"""

from typing import NamedTuple

from services.scheduler.core.contracts import Observation, State, parts_of


class Foreign(NamedTuple):
    """Names of replicas."""

    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


def foreign(state: State, seen: Observation) -> Foreign:
    """Return what no order explains; of the first tick ever nothing, as it knows of no orders.

    What was ordered to load is in the state, and what was ordered to drain is in the routing table
    no more. A load carried out after its order was given up counts, as nobody waits for it.
    """
    if not state.models or seen.replicas == state.replicas:
        return Foreign((), ())
    known, there = set(state.replicas), set(seen.replicas)
    listed = zip(state.replicas, state.concurrency.tolist(), strict=True)
    leaving = {
        name
        for name, drains in zip(state.moves, state.move_is_drain.tolist(), strict=True)
        if drains
    }
    return Foreign(
        tuple(name for name in seen.replicas if name not in known),
        tuple(n for n, c in listed if c >= 0 and n not in there and n not in leaving),
    )


def by_model(names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the names of each model's replicas."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(parts_of(name)[0], []).append(name)
    return found
