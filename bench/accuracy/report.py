"""What the rows come to: means by method, and the promises held against them."""

import json
from collections.abc import Sequence

import numpy as np

from bench.accuracy.judge import METHODS, PEERS, Row
from bench.write import markdown_table

STATSFORECAST = ("seasonal_naive", "auto_ets", "theta", "mstl")
HELD = (0.93, 0.97)


def as_json(rows: Sequence[Row]) -> str:
    """Return the rows as a list of objects, one a line."""
    return "[\n" + ",\n".join(json.dumps(row._asdict()) for row in rows) + "\n]\n"


def mean(rows: Sequence[Row], method: str, figure: str) -> float:
    """Return a method's mean over all series and horizons; infinite ones and none give NaN."""
    found = [getattr(row, figure) for row in rows if row.method == method]
    return float(np.mean(found)) if found else float("nan")


def held(rows: Sequence[Row], method: str) -> float:
    """Return the share of series and horizons whose p95 covers 93 to 97 %."""
    found = [HELD[0] <= row.coverage_p95 <= HELD[1] for row in rows if row.method == method]
    return float(np.mean(found)) if found else float("nan")


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the heading and a line a method."""
    heading = ["method", "MASE", "pinball p95", "p95 within 93-97 %", "us a forecast"]
    lines = [
        [
            method,
            f"{mean(rows, method, 'mase'):.3f}",
            f"{mean(rows, method, 'pinball_p95'):.3f}",
            f"{held(rows, method):.0%}",
            f"{mean(rows, method, 'us_per_forecast'):,.1f}",
        ]
        for method in METHODS
    ]
    return heading, lines


def verdict(rows: Sequence[Row]) -> list[str]:
    """Say in a sentence each what the figures come to."""
    best = min(STATSFORECAST, key=lambda method: mean(rows, method, "mase"))
    ratio = mean(rows, best, "us_per_forecast") / mean(rows, "ours", "us_per_forecast")
    peer = min(PEERS, key=lambda method: mean(rows, method, "pinball_p95"))
    return [
        f"MASE {mean(rows, 'ours', 'mase'):.3f}; the best of statsforecast, {best}: "
        f"{mean(rows, best, 'mase'):.3f}, whose refit takes {ratio:,.0f} times as long.",
        f"p95 covers 93 to 97 % on {held(rows, 'ours'):.0%} of series and horizons.",
        f"Pinball loss at p95 {mean(rows, 'ours', 'pinball_p95'):.3f}; the best of the peers, "
        f"{peer}: {mean(rows, peer, 'pinball_p95'):.3f}.",
    ]


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return the report, with a table of each series below that of all."""
    heading, lines = table(rows)
    text = ["# Accuracy of the forecasts", "", *(f"- {line}" for line in verdict(rows)), ""]
    text += markdown_table(heading, lines)
    text += ["", "Figures are means over series and horizons that all methods finished.", ""]
    by_series = {row.series: 0 for row in rows}
    text += ["## MASE by series, mean over horizons", ""]
    text += markdown_table(
        ["series", *METHODS],
        [
            [
                name,
                *(f"{mean([r for r in rows if r.series == name], m, 'mase'):.3f}" for m in METHODS),
            ]
            for name in by_series
        ],
    )
    text += ["", "## Coverage of our p95, by horizon", ""]
    text += markdown_table(
        ["series", "coverage"],
        [
            [
                name,
                ", ".join(
                    f"{r.horizon_s:g} s: {r.coverage_p95:.3f}"
                    for r in rows
                    if r.series == name and r.method == "ours"
                ),
            ]
            for name in by_series
        ],
    )
    text += ["", *(f"- {note}" for note in notes), ""]
    for name in by_series:
        text += [f"![{name}]({name}.svg)", ""]
    return "\n".join(text)
