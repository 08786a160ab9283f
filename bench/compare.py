"""Many seeds as one figure: means, and paired differences against ours with 95 % intervals.

Paired: each seed's load is the same for all policies, so what differs from seed to seed falls out.
"""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from bench.outcome import Row

OURS = "ours"
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


def ours_of(found: Sequence[Line]) -> Line | None:
    """Return the line of ours, if it was run."""
    return next((line for line in found if line.policy == OURS), None)


def _at(row: Row, path: Sequence[str]) -> float | None:
    value = row
    for key in path:
        value = value[key]
    return None if value is None else float(value)  # type: ignore[arg-type]
