"""The batch models of statsforecast (Nixtla, Apache-2.0), refitted at each origin.

They are given what ours must find out: the true season. MSTL, which takes several, gets the day as
well where the season is a week. AutoETS takes it up to 24 steps, as `ets` of R, whose port it is:
its time grows with points x season, and 4,000 points of a season of 288 took half a minute. Beyond
that MSTL is what remains of it: AutoETS on what the seasons leave.

A fit sees the last 4,032 points (two weeks of five minutes), or four seasons where that is more:
what lies further back cost Theta seven seconds a fit and told it nothing new.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bench.accuracy.series import Floats

Forecast = tuple[Floats, Floats]  # mean and 95th percentile, each (steps,)
Forecaster = Callable[[Floats, int], Forecast]  # of a history without gaps and the steps to foresee

ETS_SEASON_MAX = 24
FIT_POINTS, FIT_SEASONS = 4032, 4
ARIMA_WINDOW = 50
ARIMA_LEAST = 5


def fit_window(season: int) -> int:
    """Return how many of the last points a fit sees."""
    return max(FIT_POINTS, FIT_SEASONS * season)


def models(season: int, day: int) -> dict[str, Forecaster]:
    """Return forecasters by name; they raise where they fail.

    Args:
        season: the true one, in steps.
        day: steps of a day.
    """
    from statsforecast.models import MSTL, AutoETS, SeasonalNaive, Theta

    both = [day, season] if 1 < day < season and season % day == 0 else season
    ets_season = season if season <= ETS_SEASON_MAX else 1
    return {
        "seasonal_naive": partial(_refit, SeasonalNaive(season_length=season)),
        "auto_ets": partial(_refit, AutoETS(season_length=ets_season)),
        "theta": partial(_refit, Theta(season_length=season)),
        "mstl": partial(_refit, MSTL(season_length=both)),
        "dynamo_arima": dynamo_arima,
    }


def dynamo_arima(history: Floats, steps: int) -> Forecast:
    """Foresee as the `arima` load predictor of Dynamo's planner.

    Source: ai-dynamo/dynamo, planner `load/predictors.py`: an automatic ARIMA over the last 50
    values, of their logarithms where it finds no more than differences in them, the last value
    below 5 or where it fails. There it is pmdarima's search, here statsforecast's, after the same
    paper (Hyndman and Khandakar, 2008). The interval, which Dynamo does not use, is the model's.
    """
    from statsforecast.models import AutoARIMA

    past = history[-ARIMA_WINDOW:]
    last = np.full(steps, past[-1])
    if len(past) < ARIMA_LEAST or np.ptp(past) == 0:
        return last, last
    model = AutoARIMA()
    model.fit(y=past)
    p, q = model.model_["arma"][:2]
    if p == 0 and q == 0 and past.min() >= 0:
        mean, p95 = _refit(AutoARIMA(), np.log1p(past), steps)
        return np.expm1(np.minimum(mean, 700)), np.expm1(np.minimum(p95, 700))
    made = model.predict(h=steps, level=[90])
    return _checked(made["mean"].clip(min=0) if past.min() >= 0 else made["mean"], made["hi-90"])


def _refit(model: Any, history: Floats, steps: int) -> Forecast:
    # An interval of 90 % ends at the 95th percentile.
    made = model.forecast(y=history, h=steps, level=[90])
    return _checked(made["mean"], made["hi-90"])


def _checked(mean: Any, p95: Any) -> Forecast:
    if not all(math.isfinite(x) for x in (*mean, *p95)):
        raise ArithmeticError("foretells what is no number")
    return np.asarray(mean, np.float64), np.asarray(p95, np.float64)
