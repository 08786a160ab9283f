"""A campaign in words and tables: Markdown, and one HTML page with its pictures inside.

Every figure is reckoned in `outcome.py` and `compare.py`; here it is only written down.
"""

import html
import json
from collections.abc import Sequence

from bench.campaign import Campaign
from bench.compare import TARGET, lines
from bench.sentences import headline, sentences, standing
from bench.table import Table, by_model, comparison, headline_table, hours_of, tuned

PICTURES = {
    "frontier": "Attainment against charge: means over the seeds. The black line is the least "
    "charge of any peer at each attainment, the dashed one that of their counts with our shares; "
    "grey joins the static fleets.",
    "charge": "What the time of all GPUs was charged to, in the first seed. Of the peers, tuned.",
    "latency": "How many requests took longer than so many times the objective, in the first seed.",
    "timeline": "Load, replicas, queue and charge over time, in the first seed. The grey strip is "
    "not judged: the warm-up, and what peers are tuned on.",
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#222}
body{max-width:76rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto;font-size:13px}
th,td{padding:.15rem .5rem;border-bottom:1px solid #e4e4e4;text-align:right;vertical-align:bottom}
td{white-space:nowrap}th{border-bottom:2px solid #888}td.text,th.text{text-align:left}
tr.ours{background:#dce9f5;font-weight:600}tr.bound{color:#777;font-style:italic}
tr.good td{background:#f3f8ef}tr.ours td{background:#dce9f5}tr.last td{border-bottom:2px solid #888}
p.headline{font-size:18px;font-weight:600}figure{margin:1.5rem 0}figcaption{color:#555}
svg{max-width:100%;height:auto}"""
MARKS = {"ours": "ours", "oracle": "bound", "clairvoyant": "bound"}
TUNING = (
    "The cheapest setting that attains 99.5 % of every model's requests on the tuning part of the "
    "first seed, else one next to the highest attainment; only what differs from the peer's own "
    "default is named."
)


def results(campaigns: Sequence[Campaign]) -> str:
    """Return `results.json`: a list of rows, a line each."""
    rows = [json.dumps(row, allow_nan=False) for campaign in campaigns for row in campaign.rows]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def markdown(campaign: Campaign, prefix: str = "") -> str:
    """Return the report, with the pictures as files beside it, named `prefix` + their name."""
    parts = [f"# Benchmark: {campaign.scenario.name}", f"**{_headline(campaign)}**"]
    parts += [_markdown_table(headline_table(campaign)), *_sentences(campaign)]
    parts += [_markdown_table(comparison(campaign)), *_notes(campaign), *_standing(campaign)]
    for name, text in PICTURES.items():
        parts.append(f"![{name}]({prefix}{name}.svg)\n\n{text}")
    parts += ["## By model", _markdown_table(by_model(campaign))]
    if campaign.chosen:
        parts += ["## What tuning chose", TUNING, _markdown_table(tuned(campaign))]
    parts += ["## The load", *_words(campaign)]
    return "\n\n".join(parts) + "\n"


def page(campaigns: Sequence[tuple[Campaign, dict[str, str]]]) -> str:
    """Return one HTML page that needs no other file."""
    body = []
    for campaign, pictures in campaigns:
        body.append(f"<h1>Benchmark: {html.escape(campaign.scenario.name)}</h1>")
        body.append(f'<p class="headline">{_html(_headline(campaign))}</p>')
        body.append(_html_table(headline_table(campaign)))
        body += [f"<p>{_html(text)}</p>" for text in _sentences(campaign)]
        body.append(_html_table(comparison(campaign)))
        body += [f"<p>{_html(text)}</p>" for text in (*_notes(campaign), *_standing(campaign))]
        for name, text in PICTURES.items():
            svg = pictures[name]
            # Ids are unique in a picture, not in a page of several.
            body.append(
                f"<figure>{svg[svg.index('<svg') :]}<figcaption>{text}</figcaption></figure>"
            )
        body += ["<h2>By model</h2>", _html_table(by_model(campaign))]
        if campaign.chosen:
            body += [f"<h2>What tuning chose</h2><p>{_html(TUNING)}</p>"]
            body.append(_html_table(tuned(campaign)))
        body += ["<h2>The load</h2>", *(f"<p>{_html(text)}</p>" for text in _words(campaign))]
    title = ", ".join(campaign.scenario.name for campaign, _ in campaigns)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Plimsoll benchmark: {html.escape(title)}</title><style>{STYLE}</style></head>\n"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _headline(campaign: Campaign) -> str:
    return headline(lines(campaign.rows))


def _sentences(campaign: Campaign) -> list[str]:
    return sentences(lines(campaign.rows), hours_of(campaign))


def _standing(campaign: Campaign) -> list[str]:
    return standing(lines(campaign.rows), hours_of(campaign))


def _words(campaign: Campaign) -> list[str]:
    scenario, facts = campaign.scenario, campaign.facts
    gpus = scenario.fleet.devices()
    need = sum(facts.oracle_gpus.values())
    share = max(facts.oracle_gpus.values()) / need if need else 0.0
    largest = max(facts.oracle_gpus, key=lambda model: facts.oracle_gpus[model])
    loads = "; ".join(f"{model}: {label}" for model, label in facts.labels.items())
    seeds = ", ".join(map(str, campaign.seeds))
    cold = "as the models say" if scenario.cold_start_s is None else f"{scenario.cold_start_s:g} s"
    return [
        f"{scenario.about[:1].upper()}{scenario.about[1:]}. {len(scenario.models)} models on "
        f"{len(gpus)} GPUs, {facts.duration_s:g} s of which the last {facts.judged.seconds:g} are "
        f"judged, cold start {cold}. Seeds: {seeds}.",
        f"The load is {facts.kind}: its largest 10 s mean is {facts.burst:.2f} times its mean "
        f"(oracle work). The oracle needs {need:.1f} GPUs in the mean, {100 * share:.0f} % of "
        f"them for {largest}.",
        f"Load: {loads}.",
        "Service times are laws fitted to published measurements, not runs on GPUs: trust ratios, "
        "not digits.",
    ]


def _notes(campaign: Campaign) -> list[str]:
    judged = campaign.facts.judged
    many = len(campaign.seeds) > 1
    interval = (
        "With ±: half of the 95 % interval over the seeds, of differences against ours on the same "
        "load."
        if many
        else "One seed: no intervals."
    )
    return [
        f"First those that attain {100 * TARGET:g} %, the cheapest on top; then the others. All "
        f"are judged on {judged.begin_s:g} to {judged.end_s:g} s; means over the seeds. *Within "
        f"objective*: of the model that fares worst. *GPUs serving*, the charge, and *training*: "
        f"GPU-hours ÷ hours. {interval} *Regret*: charge ÷ the bound − 1, from 99 % attainment on. "
        "*+shares*: a peer's counts under our router and share loop. “–”: infinite, not defined, "
        "or not run.",
        *campaign.facts.notes,
    ]


def _markdown_table(table: Table) -> str:
    figures = len(table.head) - table.texts
    marks = [*[" --- "] * table.texts, *[" ---: "] * figures]
    head = ["| " + " | ".join(table.head) + " |", "|" + "|".join(marks) + "|"]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for _, cells in table.rows)])


def _html_table(table: Table) -> str:
    kinds = [*[' class="text"'] * table.texts, *[""] * (len(table.head) - table.texts)]
    top = "".join(
        f"<th{kind}>{html.escape(cell)}</th>" for kind, cell in zip(kinds, table.head, strict=True)
    )
    body = []
    for place, (policy, cells) in enumerate(table.rows):
        marks = [MARKS.get(policy, "")]
        marks += ["good"] * (place < table.good) + ["last"] * (place == table.good - 1)
        columns = "".join(
            f"<td{kind}>{html.escape(cell)}</td>" for kind, cell in zip(kinds, cells, strict=True)
        )
        body.append(f'<tr class="{" ".join(filter(None, marks))}">{columns}</tr>')
    return f"<table><tr>{top}</tr>{''.join(body)}</table>"


def _html(text: str) -> str:
    pieces = html.escape(text).split("*")
    return "".join(
        f"<em>{piece}</em>" if place % 2 else piece for place, piece in enumerate(pieces)
    )
