"""How many replicas a static fleet needs: found by simulation, one model at a time.

The load is that of a seed of its own, 0: a fleet is sized by what was seen on another day. Each
model is alone on the fleet, which is how static replicas live anyhow: on GPUs of their own.
"""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from bench.full import Full
from bench.load import Load
from bench.places import Places
from bench.policies.autoscaler import configure
from bench.scenario import Scenario
from libs.common.messages import ModelSpec
from libs.fleet.model import FleetModel

SEED = 0
TARGETS = (0.9, 0.95, 0.99, 0.995, 0.999)  # the sizes that are swept: what each of them takes, ...
HEADROOM = (1.15, 1.3, 1.5)  # ... and the last of them with so many times the replicas
FIRST_MS = 60_000.0
FIRST_TARGET = 0.99
DRAIN_MS = 60_000.0


def static_sizes(scenario: Scenario, load: Load, full: Full, model: str) -> list[int]:
    """Return the replicas of one model for the first minute, then for each size that is swept.

    Where even the whole fleet misses a target, as many as the fleet has.
    """
    spec = next(spec for spec in scenario.models if spec.name == model)
    most = _most(scenario, spec)
    first = _search(
        lambda n: _attained(scenario, load, full, spec, n, 0.0, FIRST_MS), FIRST_TARGET, 1, most
    )
    known: dict[int, float] = {}

    def attained(n: int) -> float:
        if n not in known:
            from_ms, until_ms = 1000 * scenario.warmup_s, 1000 * load.duration_s
            known[n] = _attained(scenario, load, full, spec, n, from_ms, until_ms)
        return known[n]

    sizes: list[int] = []
    for target in TARGETS:
        sizes.append(_search(attained, target, sizes[-1] if sizes else 1, most))
    last = sizes[-1]
    sizes += [ceil(times * last - 1e-9) for times in HEADROOM]
    return [max(n, spec.replicas_min) for n in (first, *sizes)]


def gpus_of(scenario: Scenario, replicas: dict[str, int]) -> int:
    """Return the GPUs that so many replicas take."""
    return sum(spec.gpus * replicas[spec.name] for spec in scenario.models)


def place_first(fleet: FleetModel, specs: Sequence[ModelSpec], replicas: dict[str, int]) -> None:
    """Put the replicas that all policies begin with in place, the widest first."""
    places = Places(fleet)
    for spec in sorted(specs, key=lambda spec: -spec.gpus):
        for _ in range(replicas[spec.name]):
            if places.load(spec, at_once=True) is None:
                return


def _most(scenario: Scenario, spec: ModelSpec) -> int:
    groups = sum(
        node.count * (node.gpus // spec.gpus)
        for node in scenario.fleet.nodes
        if node.device_type in spec.law
    )
    return min(spec.replicas_max, groups)


def _search(attained: Callable[[int], float], target: float, least: int, most: int) -> int:
    """Return the smallest n in [least, most] that attains the target, or most."""
    step, high = 1, least
    while high < most and attained(high) < target:
        least, high, step = high + 1, min(most, high + step), 2 * step
    while least < high:
        middle = (least + high) // 2
        if attained(middle) >= target:
            high = middle
        else:
            least = middle + 1
    return high


def _attained(
    scenario: Scenario,
    load: Load,
    full: Full,
    spec: ModelSpec,
    replicas: int,
    from_ms: float,
    until_ms: float,
) -> float:
    """Return the share within the objective of what is due in [from, until), with n replicas."""
    alone = Load({spec.name: load.arrivals[spec.name]}, load.duration_s)
    requests = alone.requests()
    fleet_spec = scenario.fleet.model_copy(update={"training": ()})
    fleet = FleetModel(fleet_spec, [spec], switch_ms=scenario.switch_ms)
    place_first(fleet, [spec], {spec.name: replicas})
    fleet.set_router(spec.name, "jsq")
    for name in fleet.replicas:
        configure(fleet, name, {spec.name: full})
    fleet.submit(requests)
    fleet.advance(until_ms + DRAIN_MS)
    table = fleet.requests
    judged = (table["due_ms"] >= from_ms) & (table["due_ms"] < until_ms)
    return float(np.mean(table["status"][judged] == 1)) if judged.any() else 1.0
