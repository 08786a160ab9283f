"""Tuning a peer: every setting that its operator would try, on the first part of the first seed.

All models run with one setting at a time, on one fleet, and each model takes the setting that was
best for it. That is stronger than one setting for all, and than a person would have the patience
for: no peer is made weak here. What is found is judged on the rest of that load, and on the other
seeds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.load import load_of
from bench.outcome import Row
from bench.peers import SCALERS, Variant
from bench.run import Plan, play
from bench.window import tuned_on

ATTAINED = 0.995  # what a setting must reach to be compared by its charge
# Where none does, the cheapest of those that come as near to the best as this: half a dozen
# requests of some thousands are no reason to pay twice.
TOLERANCE = 0.001

Chosen = dict[str, Any]  # a setting, by model


def settings_of(policy: str) -> tuple[Any, ...]:
    """Return what is tried of a peer, its default first, each once."""
    scaler = SCALERS[policy]
    return tuple(dict.fromkeys((*scaler.variants.values(), *scaler.tried)))


def try_out(plan: Plan, policy: str, settings: Sequence[Any], seed: int) -> list[list[Row]]:
    """Return what came of each setting on the tuning part, by model in the scenario's order.

    Raises:
        ContractError: the load cannot be read.
    """
    scenario = plan.scenario
    whole = load_of(scenario, seed)
    window = tuned_on(scenario, whole)
    load = whole.until(window.end_s)
    # The oracle's charge only weighs goodput, which nobody is tuned for.
    parts = np.zeros(sum(len(part.at_ms) for part in load.arrivals.values()))
    found = []
    for setting in settings:
        same = tuple((spec.name, setting) for spec in scenario.models)
        result = play(plan, Variant(policy, "tried", settings=same), seed, load, window, parts)
        found.append(result.row["models"])
    return found


def best(settings: Sequence[Any], tried: Sequence[Sequence[Row]]) -> Chosen:
    """Return each model's best setting: the cheapest that attains, else one next to the highest.

    `tried` has for each setting what came of each model. Among equals the first wins, and so it
    does for a model that nothing was sent.
    """
    chosen: Chosen = {}
    for m in range(len(tried[0])):
        rows = [models[m] for models in tried]
        shares = [row["slo_attainment"] for row in rows]
        chosen[rows[0]["model"]] = settings[0]
        if None not in shares:
            highest = max(shares)
            least = ATTAINED if highest >= ATTAINED else highest - TOLERANCE
            good = [k for k, share in enumerate(shares) if share >= least]
            cheapest = min(good, key=lambda k: rows[k]["gpu_hours_serving"])
            chosen[rows[0]["model"]] = settings[cheapest]
    return chosen


def described(setting: Any) -> str:
    """Return what differs from the peer's own default, as an operator would write it."""
    default = type(setting)()
    changed = [
        f"{name}={_short(value)}"
        for name, value in setting._asdict().items()
        if value != getattr(default, name)
    ]
    return ", ".join(changed) or "default"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
