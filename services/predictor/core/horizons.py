"""The horizons of which a record is kept, and how long each is."""

import numpy as np

from services.predictor.core.arrivals import WINDOW_S
from services.predictor.core.jit import kernel

# PEAK is the largest 10 s mean within the lead time.
TICK, SECOND, FIVE, TEN, LEAD, PEAK = range(6)
HORIZONS = 6
FIXED_S = np.array((0.2, 1.0, 5.0, 10.0))
PEAK_S = 10
LEAD_S_MAX = WINDOW_S - 5


@kernel
def horizon_s(horizon: int, lead_s: float) -> float:
    """Return the seconds of a kept horizon; NaN where the lead time is not known."""
    return FIXED_S[horizon] if horizon < LEAD else lead_s


@kernel
def width_s(horizon: int, seconds: float) -> float:
    """Return the seconds over which a kept horizon takes its mean: 10 s for the peak."""
    return PEAK_S if horizon == PEAK and seconds > PEAK_S else seconds
