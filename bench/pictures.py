"""Draws a campaign: only drawing, every number is in the rows and series. Each picture is an SVG.

matplotlib is imported here and below alone, as it takes a second to load.
"""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.campaign import Campaign
from bench.frontier import draw_frontier
from bench.paint import SPLIT, STYLE, colour, name_of, shown
from bench.run import RATIO_EDGES
from bench.timeline import draw_timeline


def draw(campaign: Campaign) -> dict[str, str]:
    """Return the pictures by name, as the text of an SVG each."""
    with plt.rc_context(STYLE):
        found = {
            "frontier": draw_frontier(campaign),
            "charge": _charge(campaign),
            "latency": _latency(campaign),
            "timeline": draw_timeline(campaign),
        }
        return {name: _svg(figure) for name, figure in found.items()}


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return text.getvalue()


def _charge(campaign: Campaign) -> Figure:
    """Where the GPUs' time went, in the first seed."""
    bars = shown(campaign, shares=True)
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.36 * len(bars)), layout="constrained")
    for place, (_, series) in enumerate(bars):
        share = 100 * series.charge_ms / series.charge_ms.sum()
        left = 0.0
        for part, (name, fill) in zip(share, SPLIT, strict=True):
            label = name if place == 0 else None
            axis.barh(place, part, left=left, color=fill, label=label, height=0.7)
            if part >= 4:
                axis.text(left + part / 2, place, f"{part:.0f}", ha="center", va="center", size=9)
            left += part
    axis.set_yticks(range(len(bars)), [name_of(key) for key, _ in bars])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlim(0, 100)
    axis.set_xlabel("% of all GPU-time")
    axis.set_title("What the GPUs' time is charged to", loc="left")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _latency(campaign: Campaign) -> Figure:
    """The share of requests that took longer than x times the objective, a panel a model."""
    models = [spec.name for spec in campaign.scenario.models]
    columns = min(4, len(models))
    rows = -(-len(models) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(1 + 3.0 * columns, 0.8 + 2.5 * rows),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for m, axis in enumerate(grid.flat):
        axis.set_visible(m < len(models))
        if m < len(models):
            _tails(axis, campaign, m, models[m])
    for axis in grid[:, 0]:
        axis.set_ylabel("longer than that")
    for m in range(len(models) - columns, len(models)):
        axis = grid.flat[m]
        axis.set_xlabel("times the objective")
        axis.tick_params(labelbottom=True)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False
    )
    figure.suptitle("Latency ÷ objective (of LLMs the worse of both)", x=0.01, ha="left")
    return figure


def _tails(axis: Axes, campaign: Campaign, m: int, model: str) -> None:
    for key, series in shown(campaign):
        counts = series.ratios[m]
        if counts.sum() == 0:
            continue
        longer = 1 - np.cumsum(counts)[:-1] / counts.sum()
        axis.plot(
            RATIO_EDGES,
            np.maximum(longer, 1e-6),
            color=colour(key[0]),
            linewidth=2 if key[0] == "ours" else 1.0,
            label=name_of(key),
        )
    axis.axvline(1, color="#888888", linewidth=1)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlim(1 / 16, 8)
    axis.set_ylim(1e-4, 1)
    axis.set_xticks([0.125, 0.5, 1, 2, 8], ["⅛", "½", "1", "2", "8"])
    axis.set_yticks([1, 0.1, 0.01, 1e-3, 1e-4], ["100 %", "10 %", "1 %", "0.1 %", "0.01 %"])
    axis.minorticks_off()
    axis.set_title(model, loc="left", fontsize=10)
