"""Puts a campaign's files in a folder: each whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from bench.campaign import Campaign
from bench.pictures import draw
from bench.report import markdown, page, results
from bench.table import comparison
from libs.common.errors import SettingError

# Of the columns of the comparison: policy, variant, attainment, charge, - ours, training, regret.
SHOWN = (0, 1, 2, 6, 7, 8, 12)


def check(out: Path) -> None:
    """Make the folder before anything runs.

    Raises:
        SettingError: it cannot be made, or written into.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"--out {out}: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise SettingError(f"--out {out}: not writable")


def write(campaigns: Sequence[Campaign], out: Path) -> None:
    """Write results.json, the pictures, report.md and report.html."""
    drawn = [(campaign, draw(campaign)) for campaign in campaigns]
    texts = []
    for campaign, pictures in drawn:
        prefix = "" if len(drawn) == 1 else f"{campaign.scenario.name}-"
        for name, svg in pictures.items():
            replace(out / f"{prefix}{name}.svg", svg)
        texts.append(markdown(campaign, prefix))
    replace(out / "report.md", "\n".join(texts))
    replace(out / "report.html", page(drawn))
    replace(out / "results.json", results(campaigns))


def summary(campaign: Campaign) -> Table:
    """Return the report's table for the terminal: its first columns."""
    found = comparison(campaign)
    table = Table(title=f"{campaign.scenario.name}", title_justify="left", box=None)
    for place in SHOWN:
        words = place < found.texts
        table.add_column(found.head[place], justify="left" if words else "right", no_wrap=words)
    for place, (policy, cells) in enumerate(found.rows):
        table.add_row(
            *(cells[column] for column in SHOWN),
            style="bold" if policy == "ours" else None,
            end_section=place == found.good - 1,
        )
    return table


def replace(path: Path, text: str) -> None:
    """Put a text into a file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def markdown_table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown."""
    rule = ["---"] * len(heading)
    return [f"| {' | '.join(cells)} |" for cells in (heading, rule, *lines)]
