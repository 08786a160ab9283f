"""The tables of a report, as text: one line a policy and variant, and what stands behind it."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.campaign import Campaign
from bench.compare import TARGET, Estimate, Line, lines, ours_of, paired, ranked
from bench.headline import ratios
from bench.tuning import described

COLUMNS = (
    "policy",
    "variant",
    "within objective",
    "p99 latency",
    "p99 TTFT",
    "p99 TPOT",
    "GPUs serving",
    "− ours",
    "GPUs training",
    "busy",
    "useful",
    "moves",
    "regret to oracle",
    "to clairvoyant",
    "standby memory",
    "seeds",
)


class Table(NamedTuple):
    """A head, and rows of the same length, each with the policy that it is of."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, Sequence[str]]]
    texts: int = 1  # columns from the left that are words, not figures
    good: int = 0  # rows from the top that attain the target


def comparison(campaign: Campaign) -> Table:
    """Return all policies: those that attain the target first, the cheapest on top."""
    found = ranked(lines(campaign.rows))
    ours, hours = ours_of(found), hours_of(campaign)
    good = sum(line.attained >= TARGET for line in found)
    rows = [(line.policy, _cells(line, ours, hours)) for line in found]
    return Table(COLUMNS, rows, 2, good)


def hours_of(campaign: Campaign) -> float:
    """Return the length of the judged part."""
    return campaign.facts.judged.seconds / 3600


def headline_table(campaign: Campaign) -> Table:
    """Return ours as ratios to static fleets, each with what it should reach."""
    head = ("headline", "beside", "ours", "static", "ratio", "to reach", "reached")
    rows = []
    for line in ratios(lines(campaign.rows), hours_of(campaign)):
        said = {None: "–", True: "yes", False: "no"}[line.held]
        bound = f"{'≤' if line.is_most else '≥'} {line.bound:g}"
        figures = (_figure(line.ours), _figure(line.static), _figure(line.times))
        rows.append((line.name, [line.name, line.why, *figures, bound, said]))
    return Table(head, rows, 2)


def by_model(campaign: Campaign) -> Table:
    """Return attainment and charge of each model under each policy."""
    names = [spec.name for spec in campaign.scenario.models]
    hours = hours_of(campaign)
    rows = []
    for line in ranked(lines(campaign.rows)):
        cells = [line.name]
        for m in range(len(names)):
            shares = [row["models"][m]["slo_attainment"] for row in line.rows]
            charge = [row["models"][m]["gpu_hours_serving"] for row in line.rows]
            known = [share for share in shares if share is not None]
            share = sum(known) / len(known) if known else None
            cells.append(f"{_percent(share, 2)}, {sum(charge) / len(charge) / hours:.1f}")
        rows.append((line.policy, cells))
    return Table(("within objective, GPUs", *names), rows)


def tuned(campaign: Campaign) -> Table:
    """Return the settings that tuning chose, by peer; empty where nothing was tuned."""
    rows = [(policy, [policy, described(chosen)]) for policy, chosen in campaign.chosen.items()]
    return Table(("tuned", "setting"), rows, 2)


def _cells(line: Line, ours: Line | None, hours: float) -> list[str]:
    gap = paired(line, ours, "gpu_hours_serving")
    less_ours = "–"
    if gap is not None and line is not ours:
        scaled = Estimate(gap.mean / hours, None if gap.half is None else gap.half / hours)
        less_ours = _estimate(scaled)
    return [
        line.policy,
        line.variant,
        _percent(line.mean("slo_attainment"), 2),
        _ms(line.mean("latency_ms", "p99")),
        _ms(line.mean("ttft_ms", "p99")),
        _ms(line.mean("tpot_ms", "p99")),
        _number(line.mean("gpu_hours_serving"), hours),
        less_ours,
        _number(line.mean("gpu_hours_training"), hours),
        _percent(line.mean("gpu_busy_share"), 1),
        _percent(line.mean("useful_work_share"), 1),
        _number(line.mean("moves"), 1.0, 0),
        _percent(line.mean("regret_vs_oracle"), 0),
        _percent(line.mean("regret_vs_clairvoyant"), 0),
        _percent(line.mean("standby_memory_share"), 0),
        str(len(line.rows)),
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


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
