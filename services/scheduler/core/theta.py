"""Theta: how much of the objective the router lets a prediction fill, corrected by what came out.

The time model may be wrong; what was measured is not. Rule and figures come from a simulation study
of packing (first fit with feedback): without the correction a model that was 15 % too optimistic
met the objective for 40 % of requests, with it for 99.95 %.
"""

import numpy as np

from services.scheduler.core.contracts import Floats
from services.scheduler.core.policy import Policy


def corrected(theta: Floats, slo_ratio_p98: Floats, policy: Policy) -> Floats:
    """Return theta, (models,): down fast when p98 nears the objective, up slowly when it is far.

    `slo_ratio_p98` is p98 of latency / objective; where it is NaN, nothing changes.
    """
    factor = np.where(slo_ratio_p98 > policy.slo_ratio_high, policy.theta_cut, 1.0)
    factor = np.where(slo_ratio_p98 < policy.slo_ratio_low, policy.theta_raise, factor)
    # Four digits: what the table shows is what the next tick multiplies.
    moved = np.round(np.clip(theta * factor, policy.theta_min, policy.theta_max), 4)
    return np.where(factor == 1.0, theta, moved)


def said(before: Floats, theta: Floats, policy: Policy) -> Floats:
    """Return the theta last explained: anew at a bound, or a good step from the one `before`."""
    at_bound = (theta <= policy.theta_min) | (theta >= policy.theta_max)
    far = np.abs(theta - before) >= policy.theta_said_step * before - 1e-9
    return np.where(at_bound | far, theta, before)
