"""Many seeds as one figure: means, paired differences against ours, and the peers' frontier.

Paired: each seed's load is the same for all policies, so what differs from seed to seed falls out.
Two lines are compared on the seeds that both were played on.
"""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from bench.outcome import Row
from bench.peers import SHARES

OURS = "ours"
TARGET = 0.995  # the attainment at which charges are compared first
# Student's t at 97.5 % for 1, 2, .. degrees of freedom; beyond the last, the normal's.
T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
NORMAL_975 = 1.96


class Estimate(NamedTuple):
    """A mean over seeds, and half the width of its 95 % interval; None: of one seed alone."""

    mean: float
    half: float | None


class Line(NamedTuple):
    """One policy and variant over all seeds."""

    policy: str
    variant: str
    rows: tuple[Row, ...]  # by seed

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.policy if self.variant == "default" else f"{self.policy} {self.variant}"

    @property
    def is_peer(self) -> bool:
        """Whether it is a policy of others: neither our core, nor the bound."""
        return self.policy not in (OURS, "weights", "clairvoyant", "oracle")

    @property
    def is_shared(self) -> bool:
        """Whether it is a peer's counts under our router and share loop."""
        return self.variant.endswith(SHARES)

    @property
    def attained(self) -> float:
        """The mean attainment; 0 where nothing came."""
        return self.mean("slo_attainment") or 0.0

    @property
    def charge_h(self) -> float:
        """The mean serving charge, in GPU-hours."""
        return self.mean("gpu_hours_serving") or 0.0

    def beside(self, other: "Line") -> "Line":
        """Return it on the seeds of the other alone."""
        seeds = {row["seed"] for row in other.rows}
        return self._replace(rows=tuple(row for row in self.rows if row["seed"] in seeds))

    def mean(self, *path: str) -> float | None:
        """Return the mean of a figure over the seeds; None where one of them is not finite."""
        values = [_at(row, path) for row in self.rows]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None


def lines(rows: Sequence[Row]) -> list[Line]:
    """Return the rows of one scenario by policy and variant, in the rows' order."""
    by: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by.setdefault((row["policy"], row["variant"]), []).append(row)
    return [Line(policy, variant, tuple(found)) for (policy, variant), found in by.items()]


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval, by Student's t."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return Estimate(mean, None)
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    t = T_975[n - 2] if n - 2 < len(T_975) else NORMAL_975
    return Estimate(mean, t * deviation / sqrt(n))


def paired(line: Line, ours: Line | None, *path: str) -> Estimate | None:
    """Return a figure less that of ours, seed by seed; None where one is not there."""
    if ours is None:
        return None
    base = {row["seed"]: _at(row, path) for row in ours.rows}
    differences = []
    for row in line.rows:
        mine, its = base.get(row["seed"]), _at(row, path)
        if mine is None or its is None:
            return None
        differences.append(its - mine)
    return estimate(differences)


def ratio(line: Line, base: Line, *path: str) -> float | None:
    """Return a figure as so many times that of the base, on the seeds of both; None: undefined."""
    over, under = line.beside(base).mean(*path), base.beside(line).mean(*path)
    return None if over is None or not under else over / under


def cheapest(found: Sequence[Line], attained: float) -> Line | None:
    """Return the line with the least charge among those that attain so much."""
    good = [line for line in found if line.attained >= attained]
    return min(good, key=lambda line: line.charge_h, default=None)


def frontier(found: Sequence[Line]) -> list[Line]:
    """Return the least charge at each attainment: lines than which none is as good and cheaper.

    From the cheapest on; each next one charges more, and attains more.
    """
    best: list[Line] = []
    for line in sorted(found, key=lambda line: (line.charge_h, -line.attained)):
        if not best or line.attained > best[-1].attained:
            best.append(line)
    return best


def ranked(found: Sequence[Line]) -> list[Line]:
    """Return first those that attain the target, the cheapest first, then the others, the best."""
    good = [line for line in found if line.attained >= TARGET]
    rest = [line for line in found if line.attained < TARGET]
    return [
        *sorted(good, key=lambda line: line.charge_h),
        *sorted(rest, key=lambda line: -line.attained),
    ]


def ours_of(found: Sequence[Line]) -> Line | None:
    """Return the line of ours, if it was run."""
    return next((ln for ln in found if (ln.policy, ln.variant) == (OURS, "default")), None)


def _at(row: Row, path: Sequence[str]) -> float | None:
    value = row
    for key in path:
        value = value[key]
    return None if value is None else float(value)  # type: ignore[arg-type]
