"""What a board is made of. A board says what is seen; how Grafana draws it is `render.py`'s."""

from typing import Literal, NamedTuple

# Units as Grafana names them, and the words for them on the page for people.
UNITS = {
    "percentunit": "percent",
    "reqps": "requests a second",
    "s": "seconds",
    "bytes": "bytes",
    "decbytes": "bytes",
    "cps": "a second",
    "short": "number",
    "none": "number",
}
# What means the same looks the same on every board.
SERVING, TRAINING, FREE = "blue", "green", "#8e8e8e"
ARRIVING, DEMAND, FORESEEN, CAPACITY = "blue", "orange", "purple", "green"
RED, GOOD, NEUTRAL = "red", "green", "#8e8e8e"


class Word(NamedTuple):
    """What a value that stands for a state is called, and its color."""

    value: int
    text: str
    color: str


class Query(NamedTuple):
    """A line, or a family of lines, of a panel."""

    expr: str
    legend: str
    color: str = ""  # else the palette's: one name has one color on all panels
    dashed: bool = False  # a target or a limit, beside what is
    fill_to: str = ""  # the legend of the line down to which the space is filled


class Panel(NamedTuple):
    """One picture, and the three things that a person needs beside it: they become its help."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    shows: str
    formula: str
    when_red: str
    kind: Literal["graph", "stat", "states", "heatmap"] = "graph"
    red_below: float | None = None  # the line to cross: below it the panel is red
    red_above: float | None = None  # at it and above, the panel is red
    axis: tuple[float, float | None] = (0, None)
    log: bool = False
    stacked: bool = False
    words: tuple[Word, ...] = ()
    repeat: str = ""  # a variable: one such panel for each of its values
    wide: int = 1  # its part of the row's width


class Row(NamedTuple):
    """Panels side by side under a heading; `repeat` as in a panel, but for the row."""

    title: str
    height: int  # in Grafana's grid: about 38 pixels each
    panels: tuple[Panel, ...]
    repeat: str = ""


class Variable(NamedTuple):
    """What the person at the board may choose: one label's values, all at first."""

    name: str  # as the label
    metric: str  # one that has the label


class Board(NamedTuple):
    """A page of Grafana. Its uid is `plimsoll-<title>`, so that links outlive a new version."""

    title: str
    asks: str  # the question that the board answers
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def name(self) -> str:
        """Return the board's name in files and addresses."""
        return self.title.lower()

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Return all panels in reading order."""
        return tuple(panel for row in self.rows for panel in row.panels)
