"""Forecast bands against what came: a picture a series, a panel a horizon."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.accuracy.judge import HORIZONS, Case
from bench.accuracy.online import Made

SHOWN = 240  # steps, the last ones: bands and line can be told apart
P50, P80, P95, P99 = 0, 1, 3, 4
CAME, BAND, MISSED = "#222222", "#2a6fbb", "#c0392b"


def draw(case: Case, made: Made, path: Path) -> None:
    """Write the picture of what `ours` foresaw of the last steps, beside what came, as SVG."""
    figure, axes = plt.subplots(
        len(HORIZONS), 1, figsize=(11, 2.4 * len(HORIZONS)), layout="constrained", sharex=True
    )
    for place, (axis, horizon) in enumerate(zip(axes, HORIZONS, strict=True)):
        _panel(axis, case, made, place, horizon)
    axes[0].legend(loc="upper left", ncols=5, frameon=False, fontsize=8)
    axes[-1].set_xlabel("hours since the series began")
    figure.suptitle(case.series.name, x=0.01, ha="left")
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="svg", metadata={"Date": None})
    plt.close(figure)
    part.replace(path)


def _panel(axis: Axes, case: Case, made: Made, place: int, horizon: int) -> None:
    assert made.quantiles is not None
    values = case.series.values
    then = np.arange(max(len(values) - SHOWN, case.past + horizon), len(values))
    hours = then * case.series.step_s / 3600
    # Each band was made `horizon` steps before the moment at which it is drawn.
    q = made.quantiles[then - horizon, place]
    came = values[then]
    axis.fill_between(hours, q[:, P95], q[:, P99], color=BAND, alpha=0.12, lw=0, label="to p99")
    axis.fill_between(hours, q[:, P80], q[:, P95], color=BAND, alpha=0.25, lw=0, label="to p95")
    axis.fill_between(hours, q[:, P50], q[:, P80], color=BAND, alpha=0.4, lw=0, label="p50 to p80")
    axis.plot(hours, came, color=CAME, lw=1, label="what came")
    over = came > q[:, P95]
    axis.plot(hours[over], came[over], ".", color=MISSED, ms=4, label="above p95")
    seconds = horizon * case.series.step_s
    ahead = f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
    axis.set_title(f"foreseen {ahead} before", loc="left", fontsize=9)
    axis.margins(x=0)
    # One burst must not flatten all else.
    top = max(float(np.nanquantile(came, 0.995)), float(np.quantile(q[:, P95], 0.98)))
    bottom = 0.0 if case.series.lower == 0 else float(np.nanmin(came))
    if top > bottom:
        axis.set_ylim(bottom, 1.15 * top if bottom == 0 else top + 0.15 * (top - bottom))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
