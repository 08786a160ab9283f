"""The suite's page and JSON: a row a load, what holds, and what does not, by name."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from bench.campaign import Campaign
from bench.compare import OURS
from bench.verdicts import Verdict, as_json, of_errors, overall, verdicts
from bench.write import markdown_table

SHOWN = {"attainment": 2, "regret to clairvoyant": 0, "busy share": 2}  # percents, by digits


class Judged(NamedTuple):
    """One load of the suite and what came of it."""

    campaign: Campaign
    verdicts: list[Verdict]
    errors: list[tuple[str, list[Verdict]]]


def judged(campaign: Campaign) -> Judged:
    """Judge a load by the kind that it was measured to be."""
    need = sum(campaign.facts.oracle_gpus.values())
    alone = [row for row in campaign.rows if row["policy"] != OURS or row["variant"] == "default"]
    return Judged(campaign, verdicts(alone, campaign.facts.kind, need), of_errors(campaign.rows))


def suite_json(done: Sequence[Judged]) -> str:
    """Return all verdicts, and the rows that they were made from."""
    loads = [
        {
            "scenario": one.campaign.scenario.name,
            "kind": one.campaign.facts.kind,
            "burst": round(one.campaign.facts.burst, 3),
            "oracle_gpus": round(sum(one.campaign.facts.oracle_gpus.values()), 3),
            "verdicts": [as_json(verdict) for verdict in one.verdicts],
            "errors": {name: [as_json(v) for v in found] for name, found in one.errors},
            "rows": one.campaign.rows,
        }
        for one in done
    ]
    whole = overall([one.verdicts for one in done])
    return json.dumps({"overall": as_json(whole), "loads": loads}, allow_nan=False, indent=1) + "\n"


def suite_page(done: Sequence[Judged], took_s: float) -> str:
    """Return the report in Markdown."""
    whole = overall([one.verdicts for one in done])
    missed = [
        f"{one.campaign.scenario.name}: {v.name} {_value(v)}, to be {_bound(v)}"
        for one in done
        for v in one.verdicts
        if v.held is False
    ]
    parts = [
        "# The suite",
        f"{len(done)} loads, {took_s / 60:.1f} min. **Bold**: the bound is missed. "
        f"{whole.name}: {_cell(whole)}, to be {_bound(whole)}.",
        _table(done),
    ]
    wrong = [(one, name, found) for one in done for name, found in one.errors]
    if wrong:
        head = ["load", "what the core believes", *(v.name for v in wrong[0][2])]
        rows = [
            [one.campaign.scenario.name, name, *map(_cell, found)] for one, name, found in wrong
        ]
        parts += ["## With wrong laws", "\n".join(markdown_table(head, rows))]
    parts += ["## Beside whom", *(_notes(one) for one in done)]
    parts += ["## Missed", "\n".join(f"- {line}" for line in missed or ["nothing"])]
    return "\n\n".join(parts) + "\n"


def _table(done: Sequence[Judged]) -> str:
    head = ["load", "kind", *(verdict.name for verdict in done[0].verdicts)]
    rows = [
        [one.campaign.scenario.name, one.campaign.facts.kind, *map(_cell, one.verdicts)]
        for one in done
    ]
    return "\n".join(markdown_table(head, rows))


def _notes(one: Judged) -> str:
    said = [f"{v.name} {_value(v)} ({v.note})" for v in one.verdicts if v.note]
    return f"*{one.campaign.scenario.name}*: {'; '.join(said)}."


def _cell(verdict: Verdict) -> str:
    return f"**{_value(verdict)}**" if verdict.held is False else _value(verdict)


def _value(verdict: Verdict) -> str:
    return _number(verdict, verdict.value)


def _number(verdict: Verdict, value: float | None) -> str:
    if value is None:
        return "–"
    if verdict.name in SHOWN:
        return f"{100 * value:.{SHOWN[verdict.name]}f} %"
    return f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.3f}"


def _bound(verdict: Verdict) -> str:
    if verdict.at_most is not None:
        return f"≤ {_number(verdict, verdict.at_most)}"
    return f"≥ {_number(verdict, verdict.at_least)}"
