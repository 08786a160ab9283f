"""Draws what happened over time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.campaign import Campaign
from bench.paint import LOAD, QUEUE, READY, SPLIT, colour, name_of, shown
from bench.run import Series


def draw_timeline(campaign: Campaign) -> Figure:
    """Load, capacity and queue over time, in the first seed: a row a policy."""
    rows = shown(campaign)
    model = _largest(campaign)
    m = [spec.name for spec in campaign.scenario.models].index(model)
    figure, grid = plt.subplots(
        len(rows),
        3,
        figsize=(13, 0.8 + 1.9 * len(rows)),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    for (key, series), axes in zip(rows, grid, strict=True):
        _moments(axes, campaign, series, m)
        axes[0].set_ylabel(name_of(key), color=colour(key[0]), fontweight="bold")
    for axis, title in zip(
        grid[0],
        (
            f"{model}: requests/s",
            f"{model}: replicas that serve or could; waiting requests",
            "all GPUs: charged to serving, training",
        ),
        strict=True,
    ):
        axis.set_title(title, loc="left", fontsize=10)
    for axis in grid[-1]:
        axis.set_xlabel("s")
    return figure


def _moments(axes: Sequence[Axes], campaign: Campaign, series: Series, m: int) -> None:
    seconds = np.arange(1, len(series.arrivals) + 1)
    for axis in axes:
        axis.axvspan(0, campaign.facts.judged.begin_s, color="#f3f3f3", zorder=0)
        axis.set_xlim(0, campaign.facts.duration_s)
    width = 5
    smooth = np.convolve(series.arrivals[:, m], np.ones(width) / width, mode="same")
    axes[0].plot(seconds, smooth, color=LOAD, linewidth=1)
    axes[0].set_ylim(bottom=0)
    axes[1].step(seconds, series.ready[:, m], color=READY, linewidth=1.5, where="post")
    axes[1].set_ylim(
        0, 1.05 * max(1, *(int(s.ready[:, m].max()) for s in campaign.series.values()))
    )
    waiting = axes[1].twinx()
    waiting.fill_between(seconds, series.queue[:, m], color=QUEUE, alpha=0.45, linewidth=0)
    waiting.set_ylim(0, max(10.0, 1.05 * _most_waiting(campaign, m)))
    waiting.grid(visible=False)
    waiting.tick_params(colors=QUEUE)
    axes[1].set_zorder(waiting.get_zorder() + 1)
    axes[1].patch.set_visible(False)
    axes[2].stackplot(
        seconds,
        series.serving_gpus,
        series.training_gpus,
        colors=(SPLIT[0][1], SPLIT[2][1]),
        linewidth=0,
    )
    axes[2].set_ylim(0, len(campaign.scenario.fleet.devices()))


def _most_waiting(campaign: Campaign, m: int) -> float:
    return float(max(np.quantile(series.queue[:, m], 0.995) for series in campaign.series.values()))


def _largest(campaign: Campaign) -> str:
    gpus = campaign.facts.oracle_gpus
    return max(gpus, key=lambda model: gpus[model])
