"""How the result moves when a constant of the policy is halved or doubled: a table for `docs/`.

Each constant alone, all else as it is, on the same loads as ours. A constant that moves nothing is
one that a user need not know of; one that moves much is one to set with care.
"""

from collections.abc import Sequence

from bench.campaign import Campaign
from bench.compare import OURS, Line, lines, ours_of, ratio
from bench.peers import Variant
from bench.write import markdown_table
from services.scheduler.core.policy import Policy

TIMES = (0.5, 2.0)
# What steers no decision of a run: what is said, and what only comes about with faults.
LEFT_OUT = (
    *("explanations_max", "theta_said_step", "move_timeout_ms", "retry_hold_ms", "fleet_stale_ms"),
    *("lead_time_ms", "weight_rule"),
)
# Beyond these a value means nothing: parts of a whole, and what theta may be at most.
AT_MOST = {
    **dict.fromkeys(("util_target", "batch_margin", "theta_initial", "theta_max"), 1.0),
    **dict.fromkeys(("batch_memory_share", "standby_memory_share", "wait_share", "theta_cut"), 1.0),
    "slo_ratio_high": 1.0,
    "slo_ratio_low": 1.0,
}


def varied() -> list[Variant]:
    """Return ours with each constant halved and doubled, within what it may be; 0 stays out."""
    found = []
    for name, value in Policy()._asdict().items():
        if name in LEFT_OUT or not value:
            continue
        for times in TIMES:
            changed = type(value)(min(times * value, AT_MOST.get(name, float("inf"))))
            if name == "theta_raise":  # what it adds
                changed = 1 + times * (value - 1)
            if changed and changed != value:
                policy = Policy()._replace(**{name: changed})
                found.append(Variant(OURS, f"{name} {changed:g}", setting=policy))
    return found


def constants_page(done: Sequence[Campaign]) -> str:
    """Return the table in Markdown: a row a constant, with attainment and charge ÷ ours."""
    loads = [campaign.scenario.name for campaign in done]
    found = [lines(campaign.rows) for campaign in done]
    head = ["constant", "as it is", "instead", *loads]
    table = [["ours", "", "", *(_cell(ours_of(those), those) for those in found)]]
    before = Policy()._asdict()
    for variant in varied():
        name, _, value = variant.variant.partition(" ")
        cells = [
            _cell(next((ln for ln in those if ln.variant == variant.variant), None), those)
            for those in found
        ]
        table.append([f"`{name}`", f"{before[name]:g}", value, *cells])
    return "\n".join(markdown_table(head, table)) + "\n"


def _cell(line: Line | None, those: Sequence[Line]) -> str:
    ours = ours_of(those)
    if line is None or ours is None:
        return "–"
    times = ratio(line, ours, "gpu_hours_serving")
    return f"{100 * line.attained:.2f} %, {'–' if times is None else f'{times:.2f} ×'}"
