"""What people have set, as the columns of a tick: what is over, or aims at nothing, is left out."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from libs.common.messages import ALL, Override
from services.scheduler.core.contracts import CORDONED, DRAINED
from services.scheduler.registry import Columns, Registered


def in_force(overrides: Mapping[str, Override], listed: Registered, now_ms: int) -> Columns:
    """Return the columns of an observation at `now_ms` that overrides make or change.

    A pin bounds a model from both sides. What aims at no model or node that is registered is said,
    so that a misspelt name is not taken for an order that holds.
    """
    live = [o for o in overrides.values() if holds(o, now_ms)]
    models, devices = len(listed.columns["models"]), len(listed.columns["devices"])
    least, most = listed.columns["replicas_min"], listed.columns["replicas_max"]
    paused, pinned = np.zeros(models, np.bool_), np.zeros(models, np.bool_)
    closed = np.zeros(devices, np.int64)
    all_paused = any(o.target == ALL for o in live)
    paused |= all_paused
    if any(o.kind == "pin" for o in live):
        least, most = least.copy(), most.copy()
    for override in live:
        m = listed.of_model.get(override.target, -1)
        match override.kind:
            case "pause" if m >= 0:
                paused[m] = True
            case "pin" if m >= 0:
                pinned[m] = True
                least[m] = most[m] = override.replicas
            case "cordon" if override.target in listed.span:
                closed[slice(*listed.span[override.target])] = (
                    DRAINED if override.drain else CORDONED
                )
    return {
        "replicas_min": least,
        "replicas_max": most,
        "paused": paused,
        "pinned": pinned,
        "closed": closed,
        "all_paused": all_paused,
        "overrides": tuple(sorted(f"{o.target}: {in_words_of(o)}{_lost(o, listed)}" for o in live)),
    }


def holds(override: Override, now_ms: int) -> bool:
    """Return whether it is in force still."""
    return override.until_ms is None or override.until_ms > now_ms


def what(override: Override) -> str:
    """Return what an override does, in a few words."""
    if override.kind == "pin":
        return f"pinned at {override.replicas} replica{'' if override.replicas == 1 else 's'}"
    if override.kind == "pause":
        return "paused"
    return "cordoned and drained" if override.drain else "cordoned"


def until(override: Override) -> str:
    """Return when it ends: `2025-11-25 14:33:00 UTC`."""
    if override.until_ms is None:
        return "it is resumed"
    return f"{datetime.fromtimestamp(override.until_ms // 1000, UTC):%F %T} UTC"


def in_words_of(override: Override) -> str:
    """Return `pinned at 3 replicas by ada until 2025-11-25 14:33:00 UTC (load test)`."""
    reason = f" ({override.reason})" if override.reason else ""
    return f"{what(override)} by {override.by} until {until(override)}{reason}"


def _lost(override: Override, listed: Registered) -> str:
    """Return what is to be said of one that aims at nothing; else nothing."""
    aims = listed.span if override.kind == "cordon" else {**listed.of_model, ALL: -1}
    kind = "node" if override.kind == "cordon" else "model"
    if override.target in aims:
        return ""
    return f"; without effect, as no such {kind} is registered"
