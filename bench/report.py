"""A campaign in words and tables: Markdown, and one HTML page with its pictures inside.

Every figure is reckoned in `outcome.py` and `compare.py`; here it is only written down.
"""

import html
import json
from collections.abc import Sequence

from bench.campaign import Campaign
from bench.compare import Estimate, Line, lines, ours_of, paired

COLUMNS = (
    "policy",
    "within objective",
    "p99 latency",
    "p99 TTFT",
    "p99 TPOT",
    "GPUs serving",
    "− ours",
    "GPUs training",
    "busy",
    "useful",
    "standby memory",
    "moves",
    "regret to oracle",
    "to clairvoyant",
)
PICTURES = {
    "pareto": "Attainment against charge. Each point is the mean over the seeds; the grey line "
    "joins the static fleets.",
    "charge": "What the time of all GPUs was charged to, in the first seed.",
    "latency": "How many requests took longer than so many times the objective, in the first seed.",
    "timeline": "Load, replicas, queue and charge over time, in the first seed. The grey strip is "
    "the warm-up, which is not judged.",
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#222}
body{max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th{border-bottom:2px solid #888}th:first-child,td:first-child{text-align:left}
tr.ours{background:#eef4fa;font-weight:600}figure{margin:1.5rem 0}figcaption{color:#555}
svg{max-width:100%;height:auto}"""


def results(campaigns: Sequence[Campaign]) -> str:
    """Return `results.json`: a list of rows, a line each."""
    rows = [json.dumps(row, allow_nan=False) for campaign in campaigns for row in campaign.rows]
    return "[\n" + ",\n".join(rows) + "\n]\n"


def markdown(campaign: Campaign, prefix: str = "") -> str:
    """Return the report, with the pictures as files beside it, named `prefix` + their name."""
    parts = [f"# Benchmark: {campaign.scenario.name}", *_words(campaign)]
    head = "| " + " | ".join(COLUMNS) + " |\n| --- |" + " ---: |" * (len(COLUMNS) - 1)
    body = ["| " + " | ".join(cells) + " |" for _, cells in _table(campaign)]
    parts.append("\n".join([head, *body]))
    parts += _notes(campaign)
    for name, text in PICTURES.items():
        parts.append(f"![{name}]({prefix}{name}.svg)\n\n{text}")
    parts.append(_models(campaign))
    return "\n\n".join(parts) + "\n"


def page(campaigns: Sequence[tuple[Campaign, dict[str, str]]]) -> str:
    """Return one HTML page that needs no other file."""
    body = []
    for campaign, pictures in campaigns:
        body.append(f"<h1>Benchmark: {html.escape(campaign.scenario.name)}</h1>")
        body += [f"<p>{_html(text)}</p>" for text in _words(campaign)]
        body.append(_html_table(COLUMNS, _table(campaign)))
        body += [f"<p>{_html(text)}</p>" for text in _notes(campaign)]
        for name, text in PICTURES.items():
            svg = pictures[name]
            # Ids are unique in a picture, not in a page of several.
            body.append(
                f"<figure>{svg[svg.index('<svg') :]}<figcaption>{text}</figcaption></figure>"
            )
        head, rows = _models_table(campaign)
        body += [
            "<h2>By model</h2>",
            _html_table(head, [(row[0], row) for row in rows]),
        ]
    title = ", ".join(campaign.scenario.name for campaign, _ in campaigns)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Plimsoll benchmark: {html.escape(title)}</title><style>{STYLE}</style></head>\n"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


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
        f"{len(gpus)} GPUs, {facts.duration_s:g} s of which the first {scenario.warmup_s:g} are "
        f"not judged, cold start {cold}. Seeds: {seeds}.",
        f"The load is {facts.kind}: its largest 10 s mean is {facts.burst:.2f} times its mean "
        f"(oracle work). The oracle needs {need:.1f} GPUs in the mean, {100 * share:.0f} % of "
        f"them for {largest}.",
        f"Load: {loads}.",
        "Service times are laws fitted to published measurements, not runs on GPUs: trust ratios, "
        "not digits.",
    ]


def _notes(campaign: Campaign) -> list[str]:
    many = len(campaign.seeds) > 1
    interval = (
        "With ±: half of the 95 % interval over the seeds, of differences against ours on the same "
        "load."
        if many
        else "One seed: no intervals."
    )
    return [
        f"Means over the seeds. *Within objective*: of the model that fares worst. {interval} "
        "*GPUs serving* and *training*: GPU-hours ÷ hours. *Regret*: charge ÷ the bound − 1, from "
        "99 % attainment on. “–”: infinite, not defined, or not run.",
        *campaign.facts.notes,
    ]


def _table(campaign: Campaign) -> list[tuple[str, list[str]]]:
    """Return (policy, cells), ours first among equals of the rows' order."""
    found = lines(campaign.rows)
    ours = ours_of(found)
    hours = (campaign.facts.duration_s - campaign.scenario.warmup_s) / 3600
    return [(line.policy, cells(line, ours, hours)) for line in found]


def cells(line: Line, ours: Line | None, hours: float) -> list[str]:
    """Return a line of the table, one text a column; `hours` is the window's length."""
    gap = paired(line, ours, "gpu_hours_serving")
    less_ours = "–"
    if gap is not None and line is not ours:
        scaled = Estimate(gap.mean / hours, None if gap.half is None else gap.half / hours)
        less_ours = _estimate(scaled)
    return [
        line.name,
        _percent(line.mean("slo_attainment"), 2),
        _ms(line.mean("latency_ms", "p99")),
        _ms(line.mean("ttft_ms", "p99")),
        _ms(line.mean("tpot_ms", "p99")),
        _number(line.mean("gpu_hours_serving"), hours),
        less_ours,
        _number(line.mean("gpu_hours_training"), hours),
        _percent(line.mean("gpu_busy_share"), 1),
        _percent(line.mean("useful_work_share"), 1),
        _percent(line.mean("standby_memory_share"), 1),
        _number(line.mean("moves"), 1.0, 0),
        _percent(line.mean("regret_vs_oracle"), 0),
        _percent(line.mean("regret_vs_clairvoyant"), 0),
    ]


def _models_table(campaign: Campaign) -> tuple[list[str], list[list[str]]]:
    names = [spec.name for spec in campaign.scenario.models]
    hours = (campaign.facts.duration_s - campaign.scenario.warmup_s) / 3600
    rows = []
    for line in lines(campaign.rows):
        cells = [line.name]
        for m in range(len(names)):
            shares = [row["models"][m]["slo_attainment"] for row in line.rows]
            charge = [row["models"][m]["gpu_hours_serving"] for row in line.rows]
            known = [share for share in shares if share is not None]
            share = sum(known) / len(known) if known else None
            cells.append(f"{_percent(share, 2)}, {sum(charge) / len(charge) / hours:.1f}")
        rows.append(cells)
    return ["within objective, GPUs", *names], rows


def _models(campaign: Campaign) -> str:
    head, rows = _models_table(campaign)
    text = [
        "## By model",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    text += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(text)


def _html_table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = []
    for policy, cells in rows:
        kind = ' class="ours"' if policy == "ours" else ""
        columns = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        body.append(f"<tr{kind}>{columns}</tr>")
    return f"<table><tr>{top}</tr>{''.join(body)}</table>"


def _html(text: str) -> str:
    pieces = html.escape(text).split("*")
    return "".join(
        f"<em>{piece}</em>" if place % 2 else piece for place, piece in enumerate(pieces)
    )


def _percent(share: float | None, digits: int) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.1f} s" if value >= 10_000 else f"{value:.0f} ms"


def _number(value: float | None, by: float, digits: int = 1) -> str:
    return "–" if value is None else f"{value / by:.{digits}f}"


def _estimate(value: Estimate) -> str:
    text = f"{value.mean:+.1f}"
    return text if value.half is None else f"{text} ± {value.half:.1f}"
