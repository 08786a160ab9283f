"""`python -m bench.accuracy.lead_time [TRACE]`: the forecasts that replicas are bought by.

The predictor's own record of errors turns a mean over the lead time into the 95th and 99th
percentile of the largest 10 s mean in it. Here two ways to that mean are held to the same counts:
`ours`, the methods of the predictor, and `holt`, one damped level and trend. Counts are of whole
seconds; a forecast is made after each.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import typer

from bench.load import BY_NAME
from services.load.core.synthetic import generate
from services.load.trace_file import read_trace
from services.predictor.core import arrivals, methods, residuals
from services.predictor.core.arrivals import Points
from services.predictor.core.jit import Row

Floats = npt.NDArray[np.float64]

LEADS_S = (15, 60)
JUDGED_FROM_S = 600
HOUR_S, DAY_S = 3600, 86_400
P95, P99 = 3, 4  # of the quantiles
PEAK_S = 10
COLUMNS = [
    "load",
    "lead_s",
    "method",
    "wape",
    "pinball_p95",
    "pinball_p99",
    "coverage_p95",
    "coverage_p99",
]
# Of `holt`: gains a second, damping, and when 10 s are a new level (see `methods.py`).
LEVEL_GAIN, TREND_GAIN, DAMPING, SURPRISE = 0.05, 0.02, 0.9, 3.0


class Holt:
    """Damped Holt (Gardner and McKenzie, 1985) that moves onto the mean of 10 s after a break."""

    def __init__(self) -> None:
        self._level, self._trend = math.nan, 0.0

    def see(self, after: Row, second: int, lead_s: int) -> Points:
        """Fold in the newest second; return the mean over each kept horizon."""
        count = float(after["counts"][after["newest"]])
        if math.isnan(self._level):
            self._level = count
        elif not math.isnan(count):
            self._learn(after, count)
        lead = self._mean(lead_s)
        return self._mean(0.2), self._mean(1), self._mean(5), self._mean(10), lead, lead

    def _mean(self, seconds: float) -> float:
        within = (1 - (1 - DAMPING**seconds) / (-seconds * math.log(DAMPING))) / (1 - DAMPING)
        return float(np.maximum(self._level + DAMPING * self._trend * within, 0.0))  # NaN stays

    def _learn(self, after: Row, count: float) -> None:
        expected = self._level + DAMPING * self._trend
        gain = max(LEVEL_GAIN, 1 / (int(after["known"])))
        level = max(expected + gain * (count - expected), 0.0)
        last = after["counts"][(after["newest"] - np.arange(PEAK_S)) % arrivals.WINDOW_S].mean()
        dispersion = float(after["dispersion"])
        per_s = (dispersion if dispersion == dispersion else 2.0) * (max(expected, 0.0) + 0.1)
        if abs(last - expected) > SURPRISE * math.sqrt(per_s * (0.1 + LEVEL_GAIN / 2)):
            level = float(last)
        self._trend = TREND_GAIN * (level - self._level) + (1 - TREND_GAIN) * DAMPING * self._trend
        self._level = level


class Ours:
    """The predictor's methods."""

    def __init__(self) -> None:
        (self._state,) = methods.nothing_learned(1)

    def see(self, after: Row, second: int, lead_s: int) -> Points:
        """Fold in the newest second; return the mean over each kept horizon."""
        methods.close_second(self._state, after, second, float(lead_s))
        return methods.points(self._state)


class Made(NamedTuple):
    """What was foreseen after each second; NaN: nothing."""

    mean: Floats  # over the lead time, (seconds,)
    peak: Floats  # quantiles of the largest 10 s mean in it, (seconds, QUANTILES)


def foresee(counts: Floats, lead_s: int, method: Holt | Ours) -> Made:
    """Foresee after each second of `counts`, with the predictor's own record of errors."""
    (after,), (record,) = arrivals.nothing_seen(1), residuals.no_record(1)
    after["partial"] = after["early"] = 0
    mean, quantiles, peaks = np.empty(4), np.empty((4, 6)), np.empty((4, 6))
    made = Made(np.empty(len(counts)), np.empty((len(counts), 6)))
    for second, count in enumerate(counts):
        arrivals.add(after, count, count / 5)
        arrivals.close_second(after)
        points = method.see(after, second, lead_s)
        now = arrivals.outlook(after, points)
        residuals.close_second(record, after, count / 5, now, float(lead_s))
        residuals.foresee(record, now, float(lead_s), mean, quantiles, peaks)
        made.mean[second], made.peak[second] = mean[-1], peaks[-1]
    return made


def judge(counts: Floats, lead_s: int, made: Made, begin_s: int) -> list[float]:
    """Return the figures of COLUMNS; errors are in shares of the mean rate."""
    seconds = np.arange(begin_s, len(counts) - lead_s)
    sums = np.concatenate(([0.0], np.cumsum(counts)))
    came = (sums[seconds + 1 + lead_s] - sums[seconds + 1]) / lead_s
    tens = (sums[PEAK_S:] - sums[:-PEAK_S]) / PEAK_S
    largest = np.lib.stride_tricks.sliding_window_view(tens, lead_s - PEAK_S + 1).max(axis=1)
    peak = largest[seconds + 1]
    figures = [float(np.abs(came - made.mean[seconds]).sum() / came.sum())]
    for place, p in ((P95, 0.95), (P99, 0.99)):
        above = peak - made.peak[seconds, place]
        figures.append(float(np.maximum(p * above, (p - 1) * above).mean() / counts.mean()))
    return figures + [float((peak <= made.peak[seconds, q]).mean()) for q in (P95, P99)]


def loads(trace: Path | None) -> Iterator[tuple[str, Floats, int]]:
    """Yield loads as counts, and from which second on they are judged."""
    rng = np.random.default_rng(1)
    if trace is not None:
        counts = _binned(read_trace(trace, 31 * DAY_S * 1000.0).at_ms)
        yield "trace", counts, JUDGED_FROM_S
        shifts = rng.integers(len(counts), size=20).tolist()
        yield "trace x 20", np.sum([np.roll(counts, s) for s in shifts], axis=0), JUDGED_FROM_S
    for name, rate_rps in (("m_small", 20.0), ("mm_image", 40.0), ("poisson", 40.0)):
        at_ms = generate(BY_NAME[name], rate_rps, HOUR_S * 1000.0, rng).at_ms
        yield name, _binned(at_ms), JUDGED_FROM_S
    season = 1 + 0.7 * np.sin(2 * np.pi * np.arange(2 * HOUR_S) / 300)
    yield "poisson, 5 min season", rng.poisson(60 * season).astype(float), 3 * JUDGED_FROM_S
    even_ms = generate(BY_NAME["m_small"], 60.0, 2.0 * HOUR_S * 1000, rng).at_ms
    passed = np.concatenate(([0.0], np.cumsum(season)))
    bent_s = np.interp(
        even_ms / 1000 * passed[-1] / (2 * HOUR_S), passed, np.arange(2 * HOUR_S + 1)
    )
    yield "m_small, 5 min season", _binned(bent_s * 1000), 3 * JUDGED_FROM_S
    second = np.arange(3 * DAY_S)
    day = (1 + 0.5 * np.sin(2 * np.pi * second / DAY_S)) * np.where(second % HOUR_S < 300, 3, 1)
    yield "poisson, day with runs", rng.poisson(30 * day).astype(float), 2 * DAY_S


def main(
    trace: Annotated[
        Path | None, typer.Argument(help="A request trace, counted by second.")
    ] = None,
) -> None:
    """Print how good both ways are, a line a load, lead time and way."""
    print(" | ".join(COLUMNS))
    for name, counts, begin_s in loads(trace):
        for lead_s in LEADS_S:
            for method in (Holt(), Ours()):
                made = foresee(counts, lead_s, method)
                figures = judge(counts, lead_s, made, begin_s)
                cells = [name, str(lead_s), type(method).__name__.lower()]
                print(" | ".join([*cells, *(f"{figure:.4f}" for figure in figures)]), flush=True)


def _binned(at_ms: Floats) -> Floats:
    return np.bincount((at_ms // 1000).astype(np.int64))[:-1].astype(float)


if __name__ == "__main__":
    typer.run(main)
