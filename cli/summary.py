"""A run in words: one line while it goes on, one table when it is over."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from cli.recording import Recording
from cli.stack import Progress
from cli.top import last_decisions, replicas

# A decision is said while it is news; older ones stand in the report and on the bus.
FRESH_MS = 5000


def progress_line(recording: Recording, progress: Progress, phase: str) -> str:
    """Say in one line how far a run is: what was sent, how it ended, replicas, last decision."""
    ends = Counter(end.status for end in recording.ends.values())
    view = recording.view
    held = " ".join(f"{name} {replicas(view, name)}" for name in sorted(view.models))
    decided = [*last_decisions(view, "scale"), *last_decisions(view, "batch")]
    fresh = [why.text for why in decided if why.at_ms >= view.tick_at_ms - FRESH_MS]
    said = f" | {fresh[0]}" if fresh else ""
    # The load tells of its sends each second, and some of them have ended since.
    sent = max(progress.total, ends.total())
    return (
        f"{phase}: in {sent}, ok {ends['ok']}, late {ends['late']},"
        f" rejected {ends['rejected']} | {held}{said}"
    )


def summary(report: dict[str, Any]) -> Table:
    """Return the report as a table for people."""
    requests, hours, split = report["requests"], report["gpu_hours"], report["gpu_busy_split"]
    table = Table(title="What came of it", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    ended = ", ".join(f"{requests[name]} {name}" for name in ("ok", "late", "rejected", "lost"))
    rows = {
        "requests": f"{requests['in']} in: {ended}",
        "within objective": _percent(report["slo_attainment"]) + " (the lowest of the models)",
        **{
            f"  {name}": f"{_percent(model['slo_attainment'])}, p99 "
            f"{_ms(model['latency_ms']['p99'])} of {_ms(model['objective_ms'])}"
            for name, model in report["models"].items()
        },
        "latency": _p50_p99(report["latency_ms"]),
        "GPU-hours": f"{hours['serving']:.3f} serving, {hours['training']:.3f} training,"
        f" {hours['total']:.3f} in all",
        "GPUs busy": f"{_percent(report['gpu_busy_share'])}: {_percent(split['serving'])} serving,"
        f" {_percent(split['training'])} training",
        "loop latency": _p50_p99(report["loop_latency_ms"]),
        "commands": ", ".join(f"{count} {name}" for name, count in report["commands"].items()),
        "forecast error": _percent(report["forecast_wape"]) + " (WAPE at the lead time)",
        "trouble": f"{report['oom_events']} out of memory, {report['dead_letters']} dead letters,"
        f" {report['leader_changes']} leader changes, {report['restarts']} restarts",
    }
    for name, said in rows.items():
        table.add_row(name, said)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} ms"


def _p50_p99(values: dict[str, float | None]) -> str:
    return f"p50 {_ms(values['p50'])}, p99 {_ms(values['p99'])}"


def print_figures(console: Console, title: str, found: Mapping[str, object]) -> None:
    """Print what a measurement found: a table for people, and as the last line one JSON object."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in found.items():
        table.add_row(name, json.dumps(value))
    console.print(table)
    print(json.dumps(found))
