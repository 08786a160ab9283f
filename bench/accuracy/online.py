"""Forecasters that go from step to step: ours, and those of the peers, over a whole series.

Each takes the values without gaps (ours: with) and returns, made after each step for each horizon,
the point forecast and the 95th percentile. Those of the peers that know no percentile get one from
their own record, so that none looks worse for not having asked: the 95th percentile of their last
300 errors at that horizon (split conformal), above the point.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.accuracy.series import Floats, Series, filled
from services.predictor.core.foresee.arrays import AT, Bank
from services.predictor.core.foresee.bank import (
    Design,
    Forecast,
    Season,
    forecast,
    make,
    set_horizons,
    update,
)

RECORD = 300
FAR_ABOVE = 10_000  # mean steps
P50, P95 = 0, 3  # of QUANTILES
DAYS_S = (86_400.0, 604_800.0)
# Below this a day has more steps than a table is worth.
DAY_STEP_S_MIN = 60.0
# Dynamo's settings: variances of the walk of level and trend and of the noise.
Q_LEVEL, Q_TREND, NOISE = 1.0, 0.1, 10.0


class Made(NamedTuple):
    """What was foreseen after each step, (points, horizons) each; NaN: nothing."""

    point: Floats
    p95: Floats
    us_per_forecast: float
    quantiles: Floats | None = None  # (points, horizons, QUANTILES), of ours


def bank_for(series: Series, horizons: Sequence[int]) -> Bank:
    """Return a bank of one row for a series: a day's and a week's table, and a window of 300."""
    days = [round(s / series.step_s) for s in DAYS_S]
    seasons = tuple(Season(d) for d in days if d > 1) if series.step_s >= DAY_STEP_S_MIN else ()
    design = Design((AT,) * len(horizons), slots=max(horizons), window=300, seasons=seasons)
    bank = make(1, design, upper=series.upper, signed=series.lower < 0)
    set_horizons(bank, [list(horizons)])
    return bank


def ours(series: Series, horizons: Sequence[int]) -> Made:
    """Foresee as the predictor does. The point is the median, which is best in absolute error."""
    values, base = _based(series.values)
    if base:
        series = series._replace(values=values, lower=-np.inf, upper=series.upper - base)
    bank = bank_for(series, horizons)
    points = len(series.values)
    out = [
        Forecast(
            np.empty((1, len(horizons)), np.float32), np.empty((1, len(horizons), 6), np.float32)
        )
        for _ in range(points)
    ]
    rows = series.values[:, None].copy()
    update(bank, rows[0], 1)  # compiled before the clock runs
    forecast(bank, 1, out=out[0])
    began = time.perf_counter()
    for place in range(1, points):
        update(bank, rows[place], place + 1)
        forecast(bank, place + 1, out=out[place])
    spent_s = time.perf_counter() - began
    quantiles = np.array([made.quantiles[0] for made in out], np.float64) + base
    us = spent_s / (points - 1) / len(horizons) * 1e6
    return Made(quantiles[:, :, P50], quantiles[:, :, P95], us, quantiles)


def _based(values: Floats) -> tuple[Floats, float]:
    """Return the values above the first one, and that; where all is well, as they are, and 0.

    A bank holds float32. Where the first 100 stand far above their own steps, those would drown.
    """
    begin = values[~np.isnan(values)][:100]
    step = float(np.mean(np.abs(np.diff(begin)))) if len(begin) > 1 else 0.0
    base = float(begin[0])
    return (values - base, base) if 0 < step < abs(base) / FAR_ABOVE else (values, 0.0)


def last_value(series: Series, horizons: Sequence[int]) -> Made:
    """Foresee that all stays as it is."""
    values = filled(series.values)
    began = time.perf_counter()
    point = np.repeat(values[:, None], len(horizons), axis=1)
    return with_record(values, point, horizons, began)


def dynamo_kalman(series: Series, horizons: Sequence[int]) -> Made:
    """Foresee as the `kalman` load predictor of Dynamo's planner: a local linear trend.

    Source: ai-dynamo/dynamo, planner `load/predictors.py` and its defaults. It foresees one step;
    its own transition carried on foresees more.
    """
    values = filled(series.values)
    began = time.perf_counter()
    move = np.array([[1.0, 1.0], [0.0, 1.0]])
    walk = np.diag([Q_LEVEL, Q_TREND])
    state, spread = np.array([values[0], 0.0]), np.eye(2) * 1000.0
    point = np.empty((len(values), len(horizons)))
    ahead = np.array(horizons)
    for step, value in enumerate(values):
        if step:
            state, spread = move @ state, move @ spread @ move.T + walk
            gain = spread[:, 0] / (spread[0, 0] + NOISE)
            state = state + gain * (value - state[0])
            spread = spread - np.outer(gain, spread[0])
        point[step] = state[0] + ahead * state[1]
    return with_record(values, point, horizons, began)


def with_record(values: Floats, point: Floats, horizons: Sequence[int], began: float) -> Made:
    """Give point forecasts, (points, horizons), their 95th percentile from their own record."""
    points = len(values)
    p95 = np.full_like(point, np.nan)
    for place, steps in enumerate(horizons):
        errors = values[steps:] - point[: points - steps, place]
        for step in range(steps, points):
            known = errors[max(0, step - steps + 1 - RECORD) : step - steps + 1]
            rank = min(len(known) - 1, int(np.ceil(0.95 * (len(known) + 1))) - 1)
            p95[step, place] = point[step, place] + np.partition(known, rank)[rank]
    us = (time.perf_counter() - began) / points / len(horizons) * 1e6
    return Made(point, p95, us)
