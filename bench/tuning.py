"""Tuning a peer: every setting that its operator would try, on the first part of the first seed.

All models run with one setting at a time, on one fleet, and the peer takes the one that was best
for the whole. A setting for each model of its own fits the tuning part better and what comes
afterwards worse: tried on `default`, it cost HPA 20 points. What is found is judged on the rest of
that load, and on the other seeds.
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


def settings_of(policy: str) -> tuple[Any, ...]:
    """Return what is tried of a peer, its default first, each once."""
    scaler = SCALERS[policy]
    return tuple(dict.fromkeys((*scaler.variants.values(), *scaler.tried)))


def try_out(plan: Plan, policy: str, settings: Sequence[Any], seed: int) -> list[Row]:
    """Return the row of each setting on the tuning part.

    Raises:
        ContractError: the load cannot be read.
    """
    scenario = plan.scenario
    whole = load_of(scenario, seed)
    window = tuned_on(scenario, whole)
    load = whole.until(window.end_s)
    # The oracle's charge only weighs goodput, which nobody is tuned for.
    parts = np.zeros(sum(len(part.at_ms) for part in load.arrivals.values()))
    variants = [Variant(policy, "tried", setting=setting) for setting in settings]
    return [play(plan, variant, seed, load, window, parts).row for variant in variants]


def best(settings: Sequence[Any], tried: Sequence[Row]) -> Any:
    """Return the best setting: the cheapest that attains, else one next to the highest.

    `tried` has the row of each setting. Among equals the first wins, and so it does where nothing
    was sent.
    """
    shares = [row["slo_attainment"] for row in tried]
    if None in shares:
        return settings[0]
    highest = max(shares)
    least = ATTAINED if highest >= ATTAINED else highest - TOLERANCE
    good = [k for k, share in enumerate(shares) if share >= least]
    return settings[min(good, key=lambda k: tried[k]["gpu_hours_serving"])]


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
