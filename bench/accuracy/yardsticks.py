"""The batch models of statsforecast (Nixtla, Apache-2.0), refitted at each origin.

They are given what ours must find out: the true season. MSTL, which takes several, gets the day as
well where the season is a week.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.accuracy.series import Floats

Forecast = tuple[Floats, Floats]  # mean and 95th percentile, each (steps,)


def models(season: int, day: int) -> dict[str, Callable[[Floats, int], Forecast]]:
    """Return forecasters by name: `(history, steps) -> (mean, p95)`; they raise where they fail."""
    from statsforecast.models import MSTL, AutoETS, SeasonalNaive, Theta

    both = [day, season] if 1 < day < season and season % day == 0 else season
    return {
        "seasonal_naive": partial(_refit, SeasonalNaive(season_length=season)),
        "auto_ets": partial(_refit, AutoETS(season_length=season)),
        "theta": partial(_refit, Theta(season_length=season)),
        "mstl": partial(_refit, MSTL(season_length=both)),
    }


def _refit(model: Any, history: Floats, steps: int) -> Forecast:
    # An interval of 90 % ends at the 95th percentile.
    made = model.forecast(y=history, h=steps, level=[90])
    mean, p95 = np.asarray(made["mean"]), np.asarray(made["hi-90"])
    if not (np.isfinite(mean).all() and np.isfinite(p95).all()):
        raise ArithmeticError("a forecast that is no number")
    return mean, p95
