"""Reads the series that forecasts are judged on: values on an even grid of time, gaps as NaN.

- `timestamp,value` (as in numenta/NAB), with that heading, a like one or none: moments, or seconds,
  ms, us or ns, the grid being their median distance. What is no finite number is missing.
- ServeGen totals, `timestamp_s,total_rate,...`: requests/s; a rate of 0 is a gap in the source.
- Request traces in the formats of `services/load`: arrivals per second, counted in bins of 1, 10
  and 60 s, which are three series.
"""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from libs.common.errors import ContractError
from services.load.trace_file import read_trace

Floats = npt.NDArray[np.float64]

ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
BINS_S = (1.0, 10.0, 60.0)
LONGEST_TRACE_MS = 31 * 86_400_000.0
# A grid of more points than these is a file whose times are far apart by mistake.
POINTS_MAX = 5_000_000
# A column that tells a trace of requests.
REQUESTS = {"ContextTokens", "arrival_s", "Request tokens"}
# Headings of a column of times, and what stands where a value is missing.
TIMES = {"timestamp", "time", "datetime", "date", "ts", "ds", "epoch", "timestamp_ms", "at_ms"}
MISSING = {"", "-", "na", "n/a", "null", "none"}
# Values beyond these are scaled by a power of two, which changes no figure: ours are float32.
HUGE, TINY = 1e15, 1e-9
GZIP_MAGIC = b"\x1f\x8b"


class Series(NamedTuple):
    """One series. Its values cannot leave [lower, upper], which its unit says, or its past."""

    name: str
    step_s: float
    values: Floats  # (points,), NaN: missing
    lower: float
    upper: float


def read_all(paths: Iterable[Path]) -> tuple[list[Series], list[str]]:
    """Return the series of all files and folders, and a line for each that holds none.

    Raises:
        ContractError: in one line: there is no series at all.
    """
    found: list[Series] = []
    passed: list[str] = []
    for path in paths:
        before = len(found)
        files = [path]
        if path.is_dir():
            files = [f for f in sorted(path.rglob("*")) if f.name.endswith(ENDINGS)]
        for file in files:
            try:
                found += read(file)
            except ContractError as error:
                passed.append(str(error))
        if path.is_dir() and len(found) == before:
            passed.append(f"{path}: no series in it")
    if not found:
        raise ContractError("; ".join(passed) or "no series")
    return _named_apart(found), passed


def _named_apart(found: list[Series]) -> list[Series]:
    """Give series of one name, from several folders, a number each."""
    times: dict[str, int] = {}
    apart = []
    for one in found:
        times[one.name] = count = times.get(one.name, 0) + 1
        apart.append(one if count == 1 else one._replace(name=f"{one.name}~{count}"))
    return apart


def read(path: Path) -> list[Series]:
    """Return the series of one file: one, or three of a request trace.

    Raises:
        ContractError: in one line, with the file, the line and what is wrong.
    """
    name = path.name
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    try:
        with _opened(path) as text:
            columns = [c.strip() for c in text.readline().lstrip("\ufeff").strip().split(",")]
            if columns[:2] == ["timestamp_s", "total_rate"]:
                time_s, values = _columns(text, path)
                return [_on_grid(name, time_s, np.where(values == 0, np.nan, values), path)]
            if len(columns) == 2 and columns[0].lower() in TIMES:
                time_s, values = _columns(text, path)
                return [_on_grid(name, time_s, values, path)]
            if len(columns) == 2 and _is_row(columns):
                time_s, values = _columns(chain([",".join(columns)], text), path)
                return [_on_grid(name, time_s, values, path)]
            requests = columns[0].startswith("{") or REQUESTS & set(columns)
            if not requests:
                raise ContractError(f"{path}:1: no series, no requests: {','.join(columns)[:80]}")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ContractError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return _binned(name, read_trace(path, LONGEST_TRACE_MS).at_ms / 1000)


def _binned(name: str, at_s: Floats) -> list[Series]:
    binned = []
    for bin_s in BINS_S:
        # The last bin is not over when the trace ends.
        bins = int(at_s[-1] // bin_s)
        counts = np.bincount((at_s // bin_s).astype(np.int64), minlength=bins + 1)[:bins]
        binned.append(Series(f"{name}@{bin_s:g}s", bin_s, counts / bin_s, 0.0, np.inf))
    return binned


def _columns(rows: Iterable[str], path: Path) -> tuple[Floats, Floats]:
    times, values = [], []
    for number, row in enumerate(csv.reader(rows), 2):
        if not row:
            continue
        try:
            time_s = _seconds(row[0])
            value = np.nan if row[1].strip().lower() in MISSING else float(row[1])
        except (ValueError, IndexError) as error:
            raise ContractError(
                f"{path}:{number}: no time and value: {','.join(row)[:80]}"
            ) from error
        if not np.isfinite(time_s):
            raise ContractError(f"{path}:{number}: no moment: {','.join(row)[:80]}")
        times.append(time_s)
        values.append(value if np.isfinite(value) else np.nan)
    return _in_seconds(np.array(times)), np.array(values)


def _is_row(cells: list[str]) -> bool:
    try:
        _seconds(cells[0])
        float(cells[1])
    except ValueError:
        return False
    return True


def _in_seconds(times: Floats) -> Floats:
    """Return times in s. Of an epoch in ms, us or ns each is a thousand times later than in s."""
    latest = float(np.abs(times).max()) if len(times) else 0.0
    for unit in (1e9, 1e6, 1e3):
        if latest >= 1e8 * unit:
            return times / unit
    return times


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip().replace("/", "-").removesuffix(" UTC"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _on_grid(name: str, time_s: Floats, values: Floats, path: Path) -> Series:
    if len(time_s) < 2 or not (step_s := float(np.median(np.diff(np.sort(time_s))))) > 0:
        raise ContractError(f"{path}: fewer than two moments")
    order = np.argsort(time_s, kind="stable")  # of a time that stands twice, the last row counts
    place = np.rint((time_s[order] - time_s[order[0]]) / step_s).astype(np.int64)
    if place[-1] >= POINTS_MAX:
        raise ContractError(f"{path}: its times span {place[-1]} steps of {step_s:g} s")
    grid = np.full(place[-1] + 1, np.nan)
    grid[place] = values[order]
    if np.isnan(grid).all():
        raise ContractError(f"{path}: no value in it")
    largest = float(np.nanmax(np.abs(grid)))
    if largest > HUGE or 0 < largest < TINY:
        grid = np.ldexp(grid, -int(np.frexp(largest)[1]))
    # What a percentage is called, not what it has been: a quiet week says nothing of the bound.
    percent = any(word in name.lower() for word in ("cpu_util", "percent", "duty_cycle", "_pct"))
    upper = 100.0 if percent and np.nanmax(grid) <= 100 else np.inf
    return Series(name, step_s, grid, 0.0 if np.nanmin(grid) >= 0 else -np.inf, upper)


def filled(values: Floats) -> Floats:
    """Return the values with each gap holding the value before it, for those that know no gaps."""
    known = np.where(np.isnan(values), 0, np.arange(len(values)))
    at = np.maximum.accumulate(known)
    held: Floats = np.where(np.isnan(values[at]), values[~np.isnan(values)][0], values[at])
    return held


def season_of(series: Series, train: int) -> int:
    """Return the true season in steps, to give to models that are told it.

    Where the first `train` points span two days: the day, or the week if that stands twice in them
    and its repetition foretold them better. Else the highest peak of the autocorrelation, else the
    hour or minute. Always 2 or more.
    """
    past = filled(series.values[:train])
    days = [round(s / series.step_s) for s in (86_400, 604_800)]
    days = [p for p in days if 2 <= p <= train // 2]
    if days:
        return min(days, key=lambda p: float(np.mean(np.abs(past[p:] - past[:-p]))))
    peak = _highest_peak(past)
    minute_or_hour = [p for s in (60, 3600) if 2 <= (p := round(s / series.step_s)) <= train // 2]
    return peak or (minute_or_hour or [2])[0]


def _highest_peak(past: Floats) -> int:
    """Return the lag from 2 to 60 at the highest peak of the autocorrelation; 0: none above 0.3."""
    centred = past - past.mean()
    total = float(centred @ centred) or 1.0
    r = [float(centred[k:] @ centred[:-k]) / total for k in range(1, min(62, len(past) // 3))]
    peaks = [k for k in range(1, len(r) - 1) if r[k] > 0.3 and r[k - 1] < r[k] >= r[k + 1]]
    return 1 + max(peaks, key=lambda k: r[k]) if peaks else 0


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as text:
        yield text
