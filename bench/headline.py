"""The headline table: ours beside a fleet as most are run, a static one, by three ratios.

The first two are against the static fleet sized for its peak, *counted on its own GPUs and without
a backlog*: what it leaves idle earns nothing. Ours is counted on the whole fleet, with its
training; of goodput only serving counts, on both sides. The third is against the static fleet with
as many GPUs as ours is charged for. A ratio that cannot be had says why.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bench.compare import TARGET, Line, cheapest, ours_of

USEFUL_WORK, GOODPUT, LATENCY = (
    2.66,
    2.79,
    0.375,
)  # what is to be reached: two at least, one at most
NEAR = 0.1  # of the GPUs that ours is charged for, what a static fleet may be off


class Ratio(NamedTuple):
    """One line: two figures, and the first as so many times the second."""

    name: str
    ours: float | None
    static: float | None
    bound: float
    is_most: bool  # the bound is an upper one
    why: str  # whom ours stands beside; where there is no ratio, why

    @property
    def times(self) -> float | None:
        """The ratio; None: it cannot be had."""
        return None if self.ours is None or not self.static else self.ours / self.static

    @property
    def held(self) -> bool | None:
        """Whether what is to be reached is; None: there is no ratio."""
        if self.times is None:
            return None
        return self.times <= self.bound if self.is_most else self.times >= self.bound


def ratios(found: Sequence[Line], hours: float) -> list[Ratio]:
    """Return the lines of the table; none without ours or a static fleet.

    `hours` is the length of the judged part.
    """
    ours = ours_of(found)
    static = [line for line in found if line.policy == "static"]
    if ours is None or not static:
        return []
    peak = cheapest(static, TARGET)
    who = f"static {peak.variant} on its own GPUs" if peak else "no static fleet attains 99.5 %"
    useful = None if peak is None else _useful_share(peak, hours)
    earned = None if peak is None else _goodput_per_usd(peak, hours)
    mine = ours.mean("useful_work_share")
    paid = ours.mean("goodput_per_usd")
    return [
        Ratio("useful-work share", mine, useful, USEFUL_WORK, False, who),
        Ratio("goodput per dollar", paid, earned, GOODPUT, False, who),
        *_latencies(ours, static, hours),
    ]


def gpus_charged(line: Line, hours: float) -> int:
    """Return the GPUs that a line is charged for, in the mean, rounded."""
    return max(1, round(line.charge_h / hours))


def _latencies(ours: Line, static: Sequence[Line], hours: float) -> list[Ratio]:
    n = gpus_charged(ours, hours)
    same: Line | None = min(static, key=lambda line: abs(_gpus(line) - n))
    if same is not None and abs(_gpus(same) - n) > max(1.0, NEAR * n):
        same = None
    found = []
    for name, figure in (("p99 latency", "latency_ms"), ("p99 time to first token", "ttft_ms")):
        mine = ours.mean(figure, "p99")
        theirs = None if same is None else same.mean(figure, "p99")
        if same is None:
            why = f"no static fleet of the {n} GPUs that ours is charged for was run"
        elif mine is None:
            why = "ours misses more than 1 %, or nothing of the kind came"
        elif theirs is None:
            why = f"static {same.variant} leaves over 1 % unanswered: its p99 is infinite"
        else:
            why = f"static {same.variant}; ours is charged for {n} GPUs"
        found.append(Ratio(name, mine, theirs, LATENCY, True, why))
    return found


def _gpus(line: Line) -> int:
    return int(line.variant.removeprefix("n="))


def _useful_share(line: Line, hours: float) -> float | None:
    useful_h = line.mean("useful_serving_hours")
    return None if useful_h is None else useful_h / (_gpus(line) * hours)


def _goodput_per_usd(line: Line, hours: float) -> float | None:
    """Return its goodput for the price of its own GPUs over the whole time."""
    per_hour = line.mean("goodput_per_gpu_hour")
    per_usd = line.mean("goodput_per_usd")
    if not per_hour or not per_usd:
        return None
    usd_per_hour = per_hour / per_usd
    return per_hour * line.charge_h / (_gpus(line) * hours * usd_per_hour)
