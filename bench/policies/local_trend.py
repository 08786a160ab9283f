"""A series with a level and a trend that both wander, filtered by Kalman: one step ahead.

    level(t) = level(t-1) + trend(t-1) + w,  trend(t) = trend(t-1) + u,  seen = level + v

with variances 1 of w, 0.1 of u and 10 of v, and begun, as in ai-dynamo/dynamo,
components/src/dynamo/planner/core/load/predictors.py, KalmanPredictor and config/defaults.py.
"""

import numpy as np

from bench.load import Floats

_STEP = np.array([[1.0, 1.0], [0.0, 1.0]])
_NOISE = np.diag([1.0, 0.1])
_SEEN_NOISE = 10.0
_UNSURE = 1000.0


class LocalTrend:
    """The filter of one series; what is seen before the first value above 0 is left out."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self._state: Floats = np.zeros(2)
        self._variance: Floats = _UNSURE * np.eye(2)

    def add(self, value: float) -> None:
        """Take in the value of the next step."""
        if self.count == 0:
            if value == 0:
                return
            self._state = np.array([value, 0.0])
        else:
            ahead = _STEP @ self._state
            variance = _STEP @ self._variance @ _STEP.T + _NOISE
            gain = variance[:, 0] / (variance[0, 0] + _SEEN_NOISE)
            self._state = ahead + gain * (value - ahead[0])
            self._variance = variance - np.outer(gain, variance[0])
        self.count += 1
        self.last = value

    def next(self) -> float:
        """Return the value expected of the next step, not below 0; 0 before the first one."""
        return max(0.0, float((_STEP @ self._state)[0]))
