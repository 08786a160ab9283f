"""Draws the frontier: attainment against charge, and where ours stands to the peers."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.campaign import Campaign
from bench.compare import TARGET, Line, frontier, lines
from bench.paint import colour
from bench.table import hours_of

LEAST = 1e-4  # missed less than this is drawn as this
DECADE_POINTS = 95.0  # how high a tenth of the missed is, about, in points
NAMED_FROM = 0.9  # who attains less stands in the table; here the names would hide each other
MARKERS = {"default": "o", "tuned": "s"}  # of peers; others, as `mended`, a diamond


def draw_frontier(campaign: Campaign) -> Figure:
    """Attainment against serving charge: the mean over seeds; cheap is left, few missed is up."""
    figure, axis = plt.subplots(figsize=(10.5, 6.5), layout="constrained")
    hours = hours_of(campaign)
    found = lines(campaign.rows)
    peers = [line for line in found if line.is_peer]
    alone = frontier([line for line in peers if not line.is_shared])
    shared = frontier([line for line in peers if line.is_shared])
    _steps(axis, alone, hours, "-", "peers' frontier")
    _steps(axis, shared, hours, "--", "theirs with our shares")
    static = sorted(_point(line, hours) for line in found if line.policy == "static")
    if static:
        axis.plot(*zip(*static, strict=True), color=colour("static"), linewidth=1, zorder=1)
    for line in found:
        if line.policy == "oracle":
            gpus = line.charge_h / hours
            axis.axvline(gpus, color=colour("oracle"), linewidth=1, linestyle=":")
            across = axis.get_xaxis_transform()
            axis.text(gpus, 0.5, " oracle", transform=across, rotation=90, va="center")
        else:
            _dot(axis, line, hours)
    _label(axis, [line for line in found if _is_named(line, (*alone, *shared))], hours)
    _axes(axis, [_point(line, hours)[0] for line in found])
    handles, labels = axis.get_legend_handles_labels()
    by = dict(zip(labels, handles, strict=True))
    figure.legend(by.values(), by.keys(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _point(line: Line, hours: float) -> tuple[float, float]:
    return line.charge_h / hours, max(LEAST, 1 - line.attained)


def _steps(axis: Axes, edge: Sequence[Line], hours: float, style: str, label: str) -> None:
    """Draw the least charge at each attainment: up to a line's attainment it is that line's."""
    if not edge:
        return
    gpus, missed = zip(*(_point(line, hours) for line in edge), strict=True)
    axis.step(
        (gpus[0], *gpus), (1.3, *missed), style, where="post", color="#222222", lw=1.2, label=label
    )


def _dot(axis: Axes, line: Line, hours: float) -> None:
    gpus, missed = _point(line, hours)
    big = line.policy in ("ours", "clairvoyant")
    face = "none" if line.is_shared else colour(line.policy)
    kind = line.variant.partition("+")[0]
    marker = "*" if big else "." if line.policy == "static" else MARKERS.get(kind, "D")
    axis.scatter(
        gpus,
        missed,
        s=220 if big else 34,
        marker=marker,
        facecolors=face,
        edgecolors=colour(line.policy),
        zorder=4 if big else 3,
        label=None if line.is_shared else line.policy,
    )


def _is_named(line: Line, edge: Sequence[Line]) -> bool:
    useful = line in edge and line.attained >= NAMED_FROM
    return useful or line.policy in ("ours", "clairvoyant")


def _label(axis: Axes, named: Sequence[Line], hours: float) -> None:
    """Write the names beside the points, each lower until it meets no other."""
    span = max((_point(line, hours)[0] for line in named), default=1.0)
    written: list[tuple[float, float]] = []
    for line in sorted(named, key=lambda line: _point(line, hours)):
        gpus, missed = _point(line, hours)
        up, down = -DECADE_POINTS * float(np.log10(missed)), 5.0
        while any(abs(g - gpus) < 0.25 * span and abs(u - up - down) < 12 for g, u in written):
            down -= 12
        written.append((gpus, up + down))
        axis.annotate(
            line.name,
            (gpus, missed),
            xytext=(8, down),
            textcoords="offset points",
            color=colour(line.policy),
            fontsize=9,
            fontweight="bold" if line.policy == "ours" else "normal",
        )


def _axes(axis: Axes, gpus: Sequence[float]) -> None:
    axis.set_yscale("log")
    axis.set_ylim(1.3, 0.7 * LEAST)  # fewer missed is up
    ticks = [1.0, 0.1, 0.05, 0.01, 1 - TARGET, 0.001, LEAST]
    names = [f"{100 * (1 - tick):.4g} %" for tick in ticks[:-1]]
    axis.set_yticks(ticks, [*names, "99.99 % or more"])
    axis.minorticks_off()
    axis.axhline(1 - TARGET, color="#888888", linewidth=1)
    axis.set_xlim(left=0, right=1.12 * max(gpus, default=1.0))
    axis.set_xlabel("GPUs charged to serving, in the mean")
    axis.set_ylabel("within the objective (lowest model)")
    axis.set_title(
        "Up and left is better. Round: default, square: tuned, diamond: other; hollow: +shares",
        loc="left",
        fontsize=10,
    )
