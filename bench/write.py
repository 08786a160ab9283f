"""Puts a campaign's files in a folder: each whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from bench.campaign import Campaign
from bench.compare import lines, ours_of
from bench.pictures import draw
from bench.report import COLUMNS, cells, markdown, page, results
from libs.common.errors import SettingError


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
            _replace(out / f"{prefix}{name}.svg", svg)
        texts.append(markdown(campaign, prefix))
    _replace(out / "report.md", "\n".join(texts))
    _replace(out / "report.html", page(drawn))
    _replace(out / "results.json", results(campaigns))


def summary(campaign: Campaign) -> Table:
    """Return the report's table for the terminal: its first columns."""
    shown = (0, 1, 5, 6, 7, 12)
    table = Table(title=f"{campaign.scenario.name}", title_justify="left", box=None)
    for place in shown:
        table.add_column(COLUMNS[place], justify="left" if place == 0 else "right")
    found = lines(campaign.rows)
    ours = ours_of(found)
    hours = (campaign.facts.duration_s - campaign.scenario.warmup_s) / 3600
    for line in found:
        row = cells(line, ours, hours)
        table.add_row(*(row[place] for place in shown), style="bold" if line is ours else None)
    return table


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
