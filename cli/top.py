"""Draws a `View` as tables for a terminal; `watch` keeps one on the screen.

`render` is a pure function of the view and the time, so tests read it as text.
"""

import math
import time
from functools import partial

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.figures import at_lead_time
from cli.follow import Follower
from cli.view import FOLLOWED, ORDERS, ModelView, Totals, View, fold
from libs.common import series
from libs.common.messages import Explanation
from libs.common.ports import Bus

REFRESH_S = 0.5
DECISIONS_SHOWN = 2  # of each kind
GIB = 1 << 30


async def watch(bus: Bus) -> None:
    """Follow the topics and redraw twice a second, until cancelled."""
    view = View()
    async with Follower(bus, FOLLOWED, partial(fold, view), whole=ORDERS) as follower:
        with Live(auto_refresh=False, screen=True) as live:
            while True:
                live.update(render(view, _now_ms()), refresh=True)
                await follower.read_for(REFRESH_S)


def render(view: View, now_ms: int, *, title: str = "") -> RenderableType:
    """Draw models, GPUs and the last decisions, one below the other."""
    return Group(_head(view, now_ms, title), _models(view), _devices(view), _decisions(view))


def _head(view: View, now_ms: int, title: str) -> Text:
    if not view.leader:
        said = "no leader yet"
    else:
        age_s = max(0, now_ms - view.tick_at_ms) / 1000
        tick = f"tick {view.tick} {age_s:.1f} s ago" if view.tick >= 0 else "no tick yet"
        said = f"leader {view.leader} · epoch {view.epoch} · {tick}"
    letters = f" · {view.dead_letters} dead letters" if view.dead_letters else ""
    return Text(" · ".join(filter(None, (title, said))) + letters, style="bold")


def _models(view: View) -> Table:
    table = Table(expand=True, title_justify="left")
    table.add_column("model")
    for name in ("now /s", "foreseen /s", "replicas", "batch", "queue", "p99 ms", "objective"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in sorted(view.models):
        model = view.models[name]
        if model.spec is None:
            continue
        objective_ms = model.spec.objective.latency_ms
        p99_ms = model_p99_ms(model)
        late = p99_ms is not None and p99_ms > objective_ms
        table.add_row(
            name,
            _number(model.totals.rate_per_s(series.ARRIVALS), 1),
            foreseen(model),
            replicas(view, name),
            batch(view, name),
            _number(model.totals.values.get(series.QUEUE), 0),
            Text(_number(p99_ms, 0), style="red" if late else ""),
            _number(objective_ms, 0),
        )
    return table


def model_p99_ms(model: ModelView) -> float | None:
    """Return the p99 of latency over the last 10 s; None without an end or an objective."""
    ratio = model.totals.latency_ratio(0.99)
    if ratio is None or model.spec is None:
        return None
    return ratio * model.spec.objective.latency_ms


def foreseen(model: ModelView) -> str:
    """Say what is foreseen at the lead time: mean and .99 quantile, and how far ahead that is."""
    at = None if model.forecast is None else at_lead_time(model.forecast)
    if at is None or model.forecast is None:
        return "-"
    text = _number(model.forecast.mean_rps[at], 1)
    if len(model.forecast.quantile_rps) >= 6 * (at + 1):
        text += f" (≤{model.forecast.quantile_rps[6 * at + 4]:.0f})"
    return f"{text} in {model.forecast.horizon_ms[at] / 1000:.0f} s"


def replicas(view: View, name: str) -> str:
    """Say how many replicas are resident, on their way in and out, and how many are wanted."""
    resident, loading = view.count(name, "resident"), view.count(name, "loading")
    draining, target = view.count(name, "draining"), view.models[name].target
    text = f"{resident}" + (f"+{loading}" if loading else "") + (f"-{draining}" if draining else "")
    return text if target is None or target == resident + loading else f"{text} → {target}"


def batch(view: View, name: str) -> str:
    """Say the batch size of the replicas there are: one number, or the span."""
    model = view.models[name]
    there = {replica.replica for replica in view.replicas(name)}
    sizes = sorted({b.batch_size for r, b in model.batches.items() if r in there})
    return "-" if not sizes else "-".join(str(size) for size in {sizes[0]: 0, sizes[-1]: 0})


def _devices(view: View) -> Table:
    table = Table(expand=True)
    table.add_column("gpu")
    table.add_column("serving", justify="right")
    table.add_column("training", justify="right")
    table.add_column("memory", justify="right")
    table.add_column("holds", ratio=1)
    for node, state in sorted(view.nodes.items()):
        for gpu in state.gpus:
            totals = view.devices.get(f"{node}/{gpu.gpu}", Totals())
            used = gpu.memory_bytes_total - gpu.memory_bytes_free
            held = [
                replica.model + ("" if replica.state == "resident" else f" ({replica.state})")
                for replica in state.replicas
                if gpu.gpu in replica.gpus
            ]
            table.add_row(
                f"{node}/{gpu.gpu}",
                _percent(_busy(totals, series.GPU_BUSY_SERVING_S)),
                _percent(_busy(totals, series.GPU_BUSY_TRAINING_S)),
                f"{used / GIB:.0f} of {gpu.memory_bytes_total / GIB:.0f} GiB",
                ", ".join(held) or "-",
            )
    return table


def _busy(totals: Totals, metric: str) -> float | None:
    """Return the busy share of late; work counts when it ends, so a long batch may exceed it."""
    share = totals.rate_per_s(metric, 4_000)
    return None if share is None else min(1.0, share)


def _decisions(view: View) -> Text:
    # Batches move every few ticks and replicas seldom: each kind has its own places.
    shown = [*last_decisions(view, "scale"), *last_decisions(view, "batch")]
    lines = [
        f"{time.strftime('%H:%M:%S', time.localtime(said.at_ms / 1000))} {said.text}"
        for said in shown or list(view.decisions)[-DECISIONS_SHOWN:]
    ]
    return Text("\n".join(lines))


def last_decisions(view: View, action: str) -> list[Explanation]:
    """Return the latest explanations of one kind, newest first."""
    return [said for said in reversed(view.decisions) if said.action == action][:DECISIONS_SHOWN]


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if math.isfinite(value) else "> all"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
