"""Holds every forecaster to the same moments of the same series.

The first 60 % of a series is the past: settings may be chosen on it, and nothing else. In the rest
24 origins stand evenly; at each, every forecaster knows what came up to it, and is judged on the
value 1, 3 and 12 steps later.
"""

import signal
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.accuracy import yardsticks
from bench.accuracy.crane import crane_dsp
from bench.accuracy.online import Made, dynamo_kalman, last_value, ours
from bench.accuracy.series import Floats, Series, filled, season_of

HORIZONS = (1, 3, 12)
ORIGINS = 24
PAST = 0.6
P = 0.95
BATCH = ("seasonal_naive", "auto_ets", "theta", "mstl", "dynamo_arima")
ONLINE: dict[str, Callable[[Series, Sequence[int]], Made]] = {
    "ours": ours,
    "last_value": last_value,
    "dynamo_kalman": dynamo_kalman,
    "crane_dsp": crane_dsp,
}
METHODS = ("ours", *BATCH, "last_value", "dynamo_kalman", "crane_dsp")
PEERS = ("last_value", "dynamo_arima", "dynamo_kalman", "crane_dsp")


class Row(NamedTuple):
    """One line of accuracy.json."""

    series: str
    horizon_s: float
    method: str
    mase: float
    pinball_p95: float
    coverage_p95: float
    us_per_forecast: float


class Case(NamedTuple):
    """A series, and where it is judged."""

    series: Series
    past: int  # points
    origins: npt.NDArray[np.int64]  # points known, (ORIGINS,)
    season: int  # the true one, in steps
    scale: float  # mean absolute step from value to value in the past


def case_of(series: Series) -> Case | str:
    """Return where a series is judged, or in a few words why it cannot be."""
    points = len(series.values)
    past = int(PAST * points)
    last = points - max(HORIZONS)
    if last - past + 1 < ORIGINS:
        return f"{series.name}: {points} points are too few for {ORIGINS} origins"
    steps = np.abs(np.diff(filled(series.values[:past])))
    scale = float(steps.mean())
    if scale == 0:
        return f"{series.name}: its first {PAST:.0%} never moves, there is no scale for an error"
    origins = np.linspace(past, last, ORIGINS).astype(np.int64)
    return Case(series, past, origins, season_of(series, past), scale)


def judge_online(case: Case, method: str) -> tuple[list[Row], Made]:
    """Return a forecaster's rows, a horizon each, and all it foresaw."""
    made = ONLINE[method](case.series, HORIZONS)
    values = case.series.values
    rows = []
    for place, horizon in enumerate(HORIZONS):
        point, p95 = made.point[:, place], made.p95[:, place]
        every = np.arange(case.past - 1, len(values) - horizon)
        at = case.origins - 1
        rows.append(
            _row(
                case,
                method,
                horizon,
                (values[at + horizon], point[at], p95[at]),
                (values[every + horizon], p95[every]),
                made.us_per_forecast,
            )
        )
    return rows, made


def judge_batch(case: Case, method: str) -> list[Row]:
    """Return a refitted model's rows; raises what the model raises where it cannot finish."""
    history = filled(case.series.values)
    day = round(86_400 / case.series.step_s)
    foresee = yardsticks.models(case.season, day)[method]
    window = yardsticks.fit_window(case.season)
    seen = [history[max(0, origin - window) : origin] for origin in case.origins]
    foresee(seen[0], max(HORIZONS))  # compiled before the clock runs
    began = time.perf_counter()
    made = [foresee(past, max(HORIZONS)) for past in seen]
    us = (time.perf_counter() - began) / len(made) / len(HORIZONS) * 1e6
    rows = []
    for horizon in HORIZONS:
        actual = case.series.values[case.origins + horizon - 1]
        point = np.array([mean[horizon - 1] for mean, _ in made])
        p95 = np.array([upper[horizon - 1] for _, upper in made])
        rows.append(_row(case, method, horizon, (actual, point, p95), (actual, p95), us))
    return rows


def quiet() -> None:
    """Make a worker leave Ctrl-C to its parent, and say nothing of what the models warn of."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.filterwarnings("ignore")


def _row(
    case: Case,
    method: str,
    horizon: int,
    judged: tuple[Floats, Floats, Floats],
    covered: tuple[Floats, Floats],
    us: float,
) -> Row:
    """Return a line; what is missing in the series is judged by nobody."""
    actual, point, p95 = judged
    known = ~np.isnan(actual)
    if not known.any():
        raise ArithmeticError("all origins lie in gaps")
    above = (actual - p95)[known]
    return Row(
        case.series.name,
        horizon * case.series.step_s,
        method,
        float(np.abs(actual - point)[known].mean()) / case.scale,
        float(np.maximum(P * above, (P - 1) * above).mean()) / case.scale,
        coverage(*covered),
        us,
    )


def coverage(actual: Floats, p95: Floats) -> float:
    """Return the value nearest 0.95 in [share below p95, share at or below it]."""
    known = ~np.isnan(actual) & ~np.isnan(p95)
    if not known.any():
        return float("nan")
    below = float((actual[known] < p95[known]).mean())
    at_or_below = float((actual[known] <= p95[known]).mean())
    return min(max(P, below), at_or_below)


def common(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows of the pairs that all methods finished, and what was dropped."""
    rows = list(rows)
    by_pair: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        by_pair.setdefault((row.series, row.horizon_s), []).append(row)
    kept, dropped = [], []
    for (series, horizon_s), found in by_pair.items():
        whole = [row for row in found if np.isfinite(row[3:]).all()]
        missing = set(METHODS) - {row.method for row in whole}
        if missing:
            dropped.append(
                f"{series}, {horizon_s:g} s: not finished by {', '.join(sorted(missing))}"
            )
        else:
            kept += sorted(found, key=lambda row: METHODS.index(row.method))
    return kept, dropped
