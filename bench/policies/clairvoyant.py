"""Our core fed the true future: what is left of its regret is not the forecast's fault.

The rates that come, the largest 10 s mean until the lead time, and the mean lengths of what comes
are read ahead in the load. All else is as in `ours`, the delay of the loop too.
"""

from collections.abc import Mapping

import numpy as np

from bench.load import Floats
from bench.policies.ours import Ours
from bench.policies.policy import Setting
from libs.common import plimsoll_pb2 as pb
from libs.fleet.model import FleetModel
from services.scheduler.core.contracts import QUANTILES
from services.scheduler.core.policy import Policy as SchedulerPolicy

# What is called "now": from the sample on, until the orders of the tick that follows.
NOW_MS = 1000.0
PEAK_MS = 10_000.0
LEAD_MS_LEAST = 10_000.0
PEAK_STEP_MS = 1000.0


class Clairvoyant(Ours):
    """`ours`, with other forecasts."""

    def __init__(self, setting: Setting, policy: SchedulerPolicy = SchedulerPolicy()) -> None:  # noqa: B008 - immutable
        super().__init__(setting, policy)
        self._arrivals = setting.load.arrivals
        self._now_ms = 0.0

    def wake(self, fleet: FleetModel) -> float:
        """Note the time, then do as `ours` does."""
        self._now_ms = fleet.now_ms
        return super().wake(fleet)

    def forecasts(self) -> Mapping[str, pb.LoadForecast]:
        """Return the predictor's forecasts, what they guess replaced by what comes."""
        said = super().forecasts()
        for model, forecast in said.items():
            if model in self._arrivals:
                self._correct(forecast)
        return said

    def _correct(self, forecast: pb.LoadForecast) -> None:
        at_ms = self._arrivals[forecast.model].at_ms
        now_ms = self._now_ms
        rate_rps = _mean_rps(at_ms, now_ms, NOW_MS)
        lead_ms = max([LEAD_MS_LEAST, *forecast.lead_time_ms.values()])
        # Each 10 s mean that ends within the lead time or a placement after it.
        begins_ms = now_ms + np.arange(0.0, lead_ms, PEAK_STEP_MS)
        peak_rps = float(_mean_rps(at_ms, begins_ms, PEAK_MS).max())
        forecast.arrival_rate_rps = float(rate_rps)
        del forecast.horizon_ms[:], forecast.peak_10s_quantile_rps[:]
        forecast.horizon_ms.append(round(lead_ms))
        forecast.peak_10s_quantile_rps.extend([peak_rps] * len(QUANTILES))
        first, last = np.searchsorted(at_ms, [now_ms, now_ms + lead_ms])
        load = self._arrivals[forecast.model]
        if last > first and load.output_tokens[first:last].any():
            forecast.prompt_tokens_mean = float(load.prompt_tokens[first:last].mean())
            forecast.output_tokens_mean = float(load.output_tokens[first:last].mean())


def _mean_rps(
    at_ms: Floats,
    from_ms: Floats | float,
    width_ms: float,
) -> Floats:
    begun, ended = np.searchsorted(at_ms, from_ms), np.searchsorted(at_ms, from_ms + width_ms)
    return np.asarray((ended - begun) * (1000 / width_ms), np.float64)
