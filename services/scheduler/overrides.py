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
    live = [o for o in overrides.values() if o.until_ms is None or o.until_ms > now_ms]
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
        "overrides": tuple(sorted(f"{o.target}: {_in_words(o, listed)}" for o in live)),
    }


def _in_words(override: Override, listed: Registered) -> str:
    """Return `pinned at 3 replicas by ada until 2025-11-25 14:33:00 UTC (load test)`."""
    what = {
        "pause": "paused",
        "pin": f"pinned at {override.replicas} replica{'' if override.replicas == 1 else 's'}",
        "cordon": "cordoned and drained" if override.drain else "cordoned",
    }[override.kind]
    until = "until it is resumed"
    if override.until_ms is not None:
        until = f"until {datetime.fromtimestamp(override.until_ms // 1000, UTC):%F %T} UTC"
    reason = f" ({override.reason})" if override.reason else ""
    aims = listed.span if override.kind == "cordon" else {**listed.of_model, ALL: -1}
    kind = "node" if override.kind == "cordon" else "model"
    lost = "" if override.target in aims else f"; without effect, as no such {kind} is registered"
    return f"{what} by {override.by} {until}{reason}{lost}"
