"""The boards as a page for people: `docs/panels.md`."""

import re
from collections.abc import Iterator

from deploy.grafana.render import when
from deploy.grafana.vocabulary import UNITS, Board, Panel

HEAD = """\
# Panels
Every panel of the boards in Grafana: what it shows, how it is computed, what to do. The same text
stands behind the `i` in the panel's corner. Made by `make boards` from `deploy/grafana/boards/`; a
test keeps the two alike.
"""
METRIC = re.compile(r"\b(?:plimsoll|process)_\w+")
# Of a histogram, the queries name the series that it consists of.
PART_OF_HISTOGRAM = re.compile(r"_(?:bucket|sum|count)$")


def as_markdown(boards: tuple[Board, ...]) -> str:
    """Return the page: a section a board, a paragraph a panel."""
    return HEAD + "".join(line for board in boards for line in _board(board))


def metrics(panel: Panel) -> tuple[str, ...]:
    """Return the names of the metrics that a panel draws on, in the order of its queries."""
    found = [name for query in panel.queries for name in METRIC.findall(query.expr)]
    return tuple(dict.fromkeys(PART_OF_HISTOGRAM.sub("", name) for name in found))


def _board(board: Board) -> Iterator[str]:
    yield f"\n## {board.title}\n{board.asks}\n"
    for row in board.rows:
        each = f", for each {row.repeat}" if row.repeat else ""
        yield f"\n### {board.title}: {row.title}{each}\n"
        for panel in row.panels:
            yield from _panel(panel)


def _panel(panel: Panel) -> Iterator[str]:
    each = f", for each {panel.repeat}" if panel.repeat else ""
    names = ", ".join(f"`{name}`" for name in metrics(panel))
    yield f"\n**{panel.title}**{each} ({UNITS[panel.unit]}{_line(panel)}). {panel.shows}\n"
    yield f"- Metrics: {names}\n"
    yield f"- Formula: {panel.formula}\n"
    yield f"- {when(panel)}: {panel.when_red}\n"


def _line(panel: Panel) -> str:
    scale, sign = (100, " %") if panel.unit == "percentunit" else (1, "")
    said = ""
    if panel.red_below is not None:
        said += f"; red below {panel.red_below * scale:g}{sign}"
    if panel.red_above is not None:
        said += f"; red from {panel.red_above * scale:g}{sign}"
    return said
