"""Draws a campaign: only drawing, every number is in the rows and series. Each picture is an SVG.

matplotlib is imported here alone, as it takes a second to load.
"""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.campaign import Campaign
from bench.compare import Line, lines
from bench.run import RATIO_EDGES, Series

# One colour a policy in all pictures; what comes later takes the next of the cycle.
COLOURS = {
    "ours": "#1f4e79",
    "clairvoyant": "#7fa7cf",
    "oracle": "#222222",
    "static": "#9a9a9a",
    "hpa": "#d95f02",
    "kpa": "#1b9e77",
}
MORE = ("#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#8c2d04", "#4d9221", "#c51b7d")
LOAD, READY, QUEUE = "#1f4e79", "#5aae61", "#b2182b"
# Of the charge: the kernels of requests, the rest of what serving is charged, training, free.
SPLIT = (
    ("serving, kernels run", "#2166ac"),
    ("serving, waiting", "#92c5de"),
    ("training", "#a6dba0"),
    ("free", "#e6e6e6"),
)
STYLE: Any = {
    "svg.hashsalt": "plimsoll",
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.axisbelow": True,
}


def draw(campaign: Campaign) -> dict[str, str]:
    """Return the pictures by name, as the text of an SVG each."""
    with plt.rc_context(STYLE):
        found = {
            "pareto": _pareto(campaign),
            "charge": _charge(campaign),
            "latency": _latency(campaign),
            "timeline": _timeline(campaign),
        }
        return {name: _svg(figure) for name, figure in found.items()}


def colour(policy: str) -> str:
    """Return a policy's colour: the same in all pictures."""
    return COLOURS.get(policy) or MORE[sum(map(ord, policy)) % len(MORE)]


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return text.getvalue()


def _pareto(campaign: Campaign) -> Figure:
    """Attainment against serving charge, a point a policy: the mean over seeds; cheap is left."""
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    found = [line for line in lines(campaign.rows) if line.mean("slo_attainment") is not None]
    window_h = (campaign.facts.duration_s - campaign.scenario.warmup_s) / 3600
    points = []
    for line in found:
        missed = max(1e-4, 1 - (line.mean("slo_attainment") or 0.0))
        gpus = (line.mean("gpu_hours_serving") or 0.0) / window_h
        if line.policy == "oracle":
            axis.axvline(gpus, color=colour("oracle"), linewidth=1, linestyle="--")
            axis.text(
                gpus, 0.5, " oracle", transform=axis.get_xaxis_transform(), rotation=90, va="center"
            )
            continue
        points.append((gpus, missed, line))
    static = sorted((gpus, missed) for gpus, missed, line in points if line.policy == "static")
    if static:
        axis.plot(*zip(*static, strict=True), color=colour("static"), linewidth=1, zorder=1)
    for gpus, missed, line in points:
        axis.scatter(gpus, missed, color=colour(line.policy), s=60, zorder=3)
    _label_points(axis, points)
    axis.set_yscale("log")
    axis.set_ylim(1.3, 0.7e-4)  # fewer missed is up
    ticks = [1.0, 0.1, 0.05, 0.01, 0.005, 0.001, 1e-4]
    axis.set_yticks(ticks, [_percent(1 - tick) for tick in ticks[:-1]] + ["99.99 % or more"])
    axis.minorticks_off()
    axis.axhline(0.01, color="#888888", linewidth=1)
    axis.set_xlabel("GPUs charged to serving, in the mean")
    axis.set_ylabel("within the objective (lowest model)")
    axis.set_xlim(left=0, right=1.12 * max((gpus for gpus, _, _ in points), default=1.0))
    axis.set_title("Attainment against charge: up and left is better", loc="left")
    return figure


def _label_points(axis: Axes, points: Sequence[tuple[float, float, Line]]) -> None:
    """Write the names beside the points, and below one another where points lie close."""
    written: list[tuple[float, float]] = []
    static = [line for _, _, line in points if line.policy == "static"]
    good = [line for line in static if (line.mean("slo_attainment") or 0.0) >= 0.99]
    named = {line.variant for line in (*static[:1], *good[:1], *static[-1:])}
    span = max((gpus for gpus, _, _ in points), default=1.0)
    for gpus, missed, line in sorted(points, key=lambda point: (point[0], -point[1])):
        place = float(np.log10(missed))
        if line.policy == "static" and line.variant not in named:
            continue
        near = sum(abs(g - gpus) < 0.12 * span and abs(p - place) < 0.25 for g, p in written)
        written.append((gpus, place))
        axis.annotate(
            line.name,
            (gpus, missed),
            xytext=(7, 5 - 12 * near),
            textcoords="offset points",
            color=colour(line.policy),
            fontsize=9,
        )


def _charge(campaign: Campaign) -> Figure:
    """Where the GPUs' time went, in the first seed."""
    shown = list(campaign.series.items())
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.42 * len(shown)), layout="constrained")
    for place, (_, series) in enumerate(shown):
        share = 100 * series.charge_ms / series.charge_ms.sum()
        left = 0.0
        for part, (name, fill) in zip(share, SPLIT, strict=True):
            label = name if place == 0 else None
            axis.barh(place, part, left=left, color=fill, label=label, height=0.7)
            if part >= 4:
                axis.text(left + part / 2, place, f"{part:.0f}", ha="center", va="center", size=9)
            left += part
    axis.set_yticks(range(len(shown)), [_name(key) for key, _ in shown])
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
    for (policy, variant), series in campaign.series.items():
        if policy == "static" and not _is_shown_static(campaign, variant):
            continue
        counts = series.ratios[m]
        if counts.sum() == 0:
            continue
        longer = 1 - np.cumsum(counts)[:-1] / counts.sum()
        axis.plot(
            RATIO_EDGES,
            np.maximum(longer, 1e-6),
            color=colour(policy),
            linewidth=2 if policy == "ours" else 1.2,
            label=_name((policy, variant)),
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


def _timeline(campaign: Campaign) -> Figure:
    """Load, capacity and queue over time, in the first seed: a row a policy."""
    shown = [
        (key, series)
        for key, series in campaign.series.items()
        if key[0] != "static" or _is_shown_static(campaign, key[1])
    ]
    model = _largest(campaign)
    m = [spec.name for spec in campaign.scenario.models].index(model)
    figure, grid = plt.subplots(
        len(shown),
        3,
        figsize=(13, 0.8 + 1.9 * len(shown)),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    for (key, series), axes in zip(shown, grid, strict=True):
        _moments(axes, campaign, series, m)
        axes[0].set_ylabel(_name(key), color=colour(key[0]), fontweight="bold")
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
        axis.axvspan(0, campaign.scenario.warmup_s, color="#f3f3f3", zorder=0)
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


def _is_shown_static(campaign: Campaign, variant: str) -> bool:
    """Return whether this is the smallest static fleet at 99 %, or else the largest of them."""
    static = [line for line in lines(campaign.rows) if line.policy == "static"]
    good = [line for line in static if (line.mean("slo_attainment") or 0.0) >= 0.99]
    return variant == (good[0] if good else static[-1]).variant


def _name(key: tuple[str, str]) -> str:
    policy, variant = key
    return policy if variant == "default" else f"{policy} {variant}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
