"""Shadow mode's account: what ran, what the scheduler would have run, and what that differs by.

Both sides count replicas times their GPUs, so replicas that share a GPU count it once each. What
the router would have woken beside the targets costs training time and no GPU, and is left out.
"""

from typing import NamedTuple

import numpy as np

from libs.common.messages import ALL, Explanation
from services.scheduler.core.contracts import RESIDENT, Decision, Floats, Observation

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
# A longer gap between two ticks is not accounted: nobody knows what ran in it.
GAP_MAX_MS = 2000


class Account(NamedTuple):
    """Sums since `since_ms`, of GPUs and dollars times ms, and of requests/s times ms."""

    since_ms: int = 0
    last_ms: int = 0
    accounted_ms: float = 0.0
    ran: float = 0.0
    wanted: float = 0.0
    ran_usd: float = 0.0  # times ms, at the price of an hour
    wanted_usd: float = 0.0
    demand: float = 0.0
    carried: float = 0.0  # of the demand, what as many replicas as the targets would carry


class Side(NamedTuple):
    """One moment, over all models."""

    ran: float
    wanted: float
    ran_usd_per_hour: float
    wanted_usd_per_hour: float
    demand_rps: float
    carried_rps: float


def step(account: Account, seen: Observation, now: Side) -> Account:
    """Return the account with the time from the last tick to this one."""
    if account.last_ms == 0:
        return Account(seen.now_ms, seen.now_ms)
    gap_ms = seen.now_ms - account.last_ms
    if not 0 < gap_ms <= GAP_MAX_MS:
        return account._replace(last_ms=seen.now_ms)
    sums = np.array(account[2:]) + gap_ms * np.array([1.0, *now])
    return Account(account.since_ms, seen.now_ms, *sums.tolist())


def side_of(seen: Observation, decision: Decision, usd_per_hour: Floats) -> Side:
    """Return what runs and what would; `usd_per_hour` is (devices,).

    A target costs what the model's replicas cost where they are now, else the fleet's mean.
    """
    models = len(seen.models)
    listed = seen.replica_model >= 0
    model = seen.replica_model[listed]
    devices = seen.replica_devices[listed]
    prices = np.append(usd_per_hour, 0.0)[devices].sum(axis=1)  # -1 finds the last one
    count = np.bincount(model, minlength=models)
    usd = np.bincount(model, prices, minlength=models)
    resident = np.bincount(model[seen.replica_stage[listed] == RESIDENT], minlength=models)
    mean_usd = float(usd_per_hour.mean()) if len(usd_per_hour) else 0.0
    each_usd = np.where(count > 0, usd / np.maximum(count, 1), seen.gpus * mean_usd)
    target = np.where(decision.state.target >= 0, decision.state.target, count)
    each_rps = decision.figures.capacity_rps / np.maximum(resident, 1)
    # Of a model without a replica nobody knows what one carries: it is taken to meet its demand.
    demand = np.nan_to_num(decision.figures.demand_rps)
    carried = np.where(resident > 0, np.minimum(demand, target * each_rps), demand)
    return Side(
        float(count @ seen.gpus),
        float(target @ seen.gpus),
        float(usd.sum()),
        float(target @ each_usd),
        float(demand.sum()),
        float(carried.sum()),
    )


def report(account: Account, seen: Observation) -> Explanation:
    """Return what an account says, of all models, on `decisions.explained`."""
    hours = account.accounted_ms / HOUR_MS
    numbers = {
        "accounted_s": account.accounted_ms / 1000,
        "ran_gpu_h": account.ran / HOUR_MS,
        "wanted_gpu_h": account.wanted / HOUR_MS,
        "ran_usd": account.ran_usd / HOUR_MS,
        "wanted_usd": account.wanted_usd / HOUR_MS,
        "demand_requests": account.demand / 1000,
        "carried_requests": account.carried / 1000,
    }
    gpus = [numbers[name] / hours if hours else 0.0 for name in ("ran_gpu_h", "wanted_gpu_h")]
    text = f"in shadow, nothing was commanded; {gpus[0]:.1f} GPUs ran, and {gpus[1]:.1f} would do"
    return Explanation(
        model=ALL,
        epoch=seen.epoch,
        tick=seen.tick,
        at_ms=seen.now_ms,
        action="shadow",
        text=text,
        bound="shadow",
        numbers=numbers,
    )
