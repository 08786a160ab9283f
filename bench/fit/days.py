"""How the rate of a day goes: a few harmonics in its logarithm, and two noises that they leave.

Rates are means of 600 s over two weeks, as published. Windows below a twentieth of the median are
gaps in the recording, not nights, and are left out. What the harmonics leave is taken apart: how
days differ as a whole, straight from noon to noon, and what is left of that. The clock of the
publisher is not named, so hour 0 is where its record begins.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.fit.least_squares import Floats, percent, significant
from bench.fit.profiles import SERVEGEN, read

HARMONICS = 4
DAY_S = 86_400.0
GAP_SHARE = 0.05
NAMES = ("m-small", "m-large")


class Harmonics(NamedTuple):
    """ln(rate / a constant) over the day: a cosine and a sine for each multiple."""

    terms: Floats  # (windows, 1 + 2 x harmonics)
    log_rate: Floats
    day: Floats

    def fitted(self, seen: Floats) -> Floats:
        """Return the coefficients by what was `seen`."""
        return np.asarray(np.linalg.lstsq(self.terms[seen], self.log_rate[seen], rcond=None)[0])


def fit_all(shared: Path) -> list[dict[str, Any]]:
    """One entry of `laws.yaml` for each load."""
    return [_fit(name, shared) for name in NAMES]


def _fit(name: str, shared: Path) -> dict[str, Any]:
    source = SERVEGEN.of(name)
    rows = read(source, shared)
    at_s = np.array([float(row["timestamp_s"]) for row in rows])
    rate = np.array([float(row["total_rate"]) for row in rows])
    kept = rate > GAP_SHARE * np.median(rate)
    load = harmonics(at_s[kept], rate[kept])
    x = load.fitted(np.ones(len(load.day), np.bool_))
    left = load.log_rate - load.terms @ x
    days = np.unique(load.day)
    level = np.array([left[load.day == day].mean() for day in days])
    fast = left - np.interp(at_s[kept] / DAY_S - 0.5, days, level)
    after = np.diff(at_s[kept]) == at_s[1] - at_s[0]  # windows that follow each other
    out = [
        abs(np.exp(load.terms[day] @ load.fitted(~day) - load.log_rate[day]) - 1)
        for day in (load.day == d for d in days)
    ]
    return {
        "load": name.replace("-", "_"),
        "ln_rate_harmonics": [significant(value) for value in x[1:]],
        "of_days": {
            "sd": significant(level.std()),
            "correlation_next_day": significant(np.corrcoef(level[1:], level[:-1])[0, 1]),
        },
        "within_days": {
            "sd": significant(fast.std()),
            "correlation_600s": significant(np.corrcoef(fast[1:][after], fast[:-1][after])[0, 1]),
        },
        "explained_percent": round(100 * (1 - float(left.var() / load.log_rate.var())), 1),
        "rows": int(kept.sum()),
        "gaps": int((~kept).sum()),
        "median_error_percent": {
            "fit": percent(abs(np.exp(-left) - 1)),
            "left_out_days": percent(np.concatenate(out)),
        },
        "method": f"least squares over ln(rate), {HARMONICS} harmonics of a day",
        "sources": [source.file],
    }


def harmonics(at_s: Floats, rate: Floats) -> Harmonics:
    """Return the terms of a fit: 1, cos and sin of the day, of half a day, .."""
    turn = 2 * np.pi * at_s / DAY_S
    waves = [wave(k * turn) for k in range(1, HARMONICS + 1) for wave in (np.cos, np.sin)]
    terms = np.stack([np.ones(len(at_s)), *waves], axis=1)
    return Harmonics(terms, np.log(rate), at_s // DAY_S)
