"""Draws a run as one picture: a column for each model, and below it what the GPUs were used for.

Only drawing: every number comes from the recording. matplotlib is imported here alone, as it takes
a second to load.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cli.recording import ModelMoment, Recording
from cli.report import Window
from cli.view import Floats
from libs.common import series

ARRIVING, FORESEEN, READY, COMING, WAITING, LIMIT = (
    "#1f4e79",
    "#e08214",
    "#5aae61",
    "#c7e9c0",
    "#7b6888",
    "#b2182b",
)
CHARGES = {
    series.GPU_SERVING_S: ("serving", "#4393c3"),
    series.GPU_TRAINING_S: ("training", "#a6dba0"),
    series.GPU_FREE_S: ("free", "#e6e6e6"),
}


def draw(recording: Recording, window: Window, title: str, path: Path) -> None:
    """Write the timeline of a run to `path` as PNG."""
    names = sorted({name for moment in recording.moments for name in moment.models})
    figure = plt.figure(figsize=(max(8.0, 4.2 * len(names)), 12), layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    grid = figure.add_gridspec(5, len(names) or 1, height_ratios=[3, 2, 2, 2, 2.4])
    for column, name in enumerate(names):
        axes = [figure.add_subplot(grid[row, column]) for row in range(4)]
        _draw_model(recording, window, name, axes)
        if column == 0:
            for axis, label in zip(
                axes, ("requests / s", "replicas", "queue", "p99 latency, ms"), strict=True
            ):
                axis.set_ylabel(label)
    charge = figure.add_subplot(grid[4, :])
    _draw_charge(recording, window, charge)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw_model(recording: Recording, window: Window, name: str, axes: Sequence[Axes]) -> None:
    load, capacity, queue, latency = axes
    moments = [(m.at_ms, m.models[name]) for m in recording.moments if name in m.models]
    x = _seconds([at_ms for at_ms, _ in moments], window)
    load.set_title(name, loc="left", fontweight="bold")
    load.plot(x, _column(moments, "arrival_rate_rps"), color=ARRIVING, lw=1)
    forecasts = [f for f in recording.forecasts if f.model == name]
    # A forecast is of the mean over its horizon, so it stands at the middle of that.
    middle_s = _seconds([f.at_ms + f.horizon_ms / 2 for f in forecasts], window)
    load.plot(middle_s, [f.mean_rps for f in forecasts], color=FORESEEN, lw=1.6)

    resident, coming = _column(moments, "resident"), _column(moments, "loading")
    capacity.fill_between(x, resident, step="post", color=READY, lw=0)
    capacity.fill_between(x, resident, resident + coming, step="post", color=COMING, lw=0)
    capacity.step(x, _column(moments, "target"), where="post", color="black", lw=1, ls="--")
    capacity.yaxis.set_major_locator(MaxNLocator(integer=True))
    queue.fill_between(x, _column(moments, "queue"), color=WAITING, lw=0)
    latency.plot(x, _column(moments, "p99_ms"), color=ARRIVING, lw=1)
    spec = recording.view.models[name].spec
    if spec is not None:
        latency.axhline(spec.objective.latency_ms, color=LIMIT, lw=1.2)
    scaled_ms = [said.at_ms for said in recording.scalings if said.model == name]
    for axis in axes:
        axis.set_xlim(0, window.duration_s)
        axis.set_ylim(0, 1.08 * axis.get_ylim()[1])
        axis.spines[["top", "right"]].set_visible(False)
        for at_s in _seconds(scaled_ms, window):
            axis.axvline(at_s, color="black", lw=0.6, alpha=0.35)
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)


def _draw_charge(recording: Recording, window: Window, axis: Axes) -> None:
    """Stack the GPUs charged to serving, to training and to nothing, second by second."""
    edges_s = np.arange(0, window.duration_s + 0.5)
    at_ms = window.start_ms + 1000 * edges_s
    charges = [np.diff(recording.counted(name, at_ms)) for name in CHARGES]
    colors = [color for _, color in CHARGES.values()]
    bottom = np.zeros(len(edges_s) - 1)
    for charge, color in zip(charges, colors, strict=True):
        axis.stairs(bottom + charge, edges_s, baseline=bottom, fill=True, color=color)
        bottom = bottom + charge
    fleet = max((len(moment.devices) for moment in recording.moments), default=1)
    axis.set_xlim(0, window.duration_s)
    axis.set_ylim(0, fleet or 1)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("what the GPUs are charged to", loc="left", fontweight="bold")
    axis.set_ylabel("GPUs")
    axis.set_xlabel("seconds from the start of the load")
    axis.spines[["top", "right"]].set_visible(False)


def _legend() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=ARRIVING, label="arriving; p99 over 10 s"),
        Line2D([], [], color=FORESEEN, label="foreseen over the lead time"),
        Line2D([], [], color=LIMIT, label="objective"),
        Line2D([], [], color="black", ls="--", label="replicas ordered"),
        Line2D([], [], color="black", lw=0.6, alpha=0.5, label="decision to scale"),
        Patch(color=READY, label="resident"),
        Patch(color=COMING, label="loading"),
        *[Patch(color=color, label=f"GPUs {name}") for name, color in CHARGES.values()],
    ]


def _seconds(at_ms: Sequence[float], window: Window) -> Floats:
    return (np.asarray(at_ms, dtype=np.float64) - window.start_ms) / 1000


def _column(moments: Sequence[tuple[int, ModelMoment]], name: str) -> Floats:
    """Return one field over time; what was not known, or is without bound, is a gap."""
    values = [getattr(model, name) for _, model in moments]
    column = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(column), column, np.nan)
