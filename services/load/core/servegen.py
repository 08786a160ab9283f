"""Draws requests from ServeGen's tables of clients: synthetic load with published laws.

Source: alibaba/ServeGen, `data/`: for each client and window of 600 s the request rate and the law
of the time between requests (Gamma or Weibull, its shape and scale), and summaries of the lengths.

The tables are here one CSV each: client_id,timestamp_s,rate,cv,pattern,param1,param2 (requests/s;
shape, s) and client_id,window_start_s,field,mean,p50,p90,p99 (tokens).
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common.errors import ContractError
from services.load.core.arrivals import Arrivals

CLIENTS = "client_id,timestamp_s,rate,cv,pattern,param1,param2"
LENGTHS = "client_id,window_start_s,field,mean,p50,p90,p99"
WINDOW_MS = 600_000.0
# Above this the whole of what a file describes was asked for, fourteen days of it, by mistake.
REQUESTS_MAX = 20_000_000
# Quantiles p50, p90, p99 of the lengths of a client of which nothing is known: the Azure chat trace
# of 2023 (Azure/AzurePublicDataset, `AzureLLMInferenceTrace_conv.csv`).
UNKNOWN_CLIENT = {"input_tokens": (1020.0, 2735.0, 4142.0), "output_tokens": (129.0, 424.0, 601.0)}

Quantiles = tuple[float, float, float]
Lengths = dict[str, dict[str, list[tuple[float, Quantiles]]]]  # field, client: (from ms, quantiles)


class Window(NamedTuple):
    """One client's law in one window."""

    client: str
    begin_ms: float
    rate_per_ms: float
    gamma: bool  # or Weibull
    shape: float


def draw(
    clients: Iterable[str],
    lengths: Iterable[str] | None,
    name: str,
    until_ms: float,
    rng: np.random.Generator,
) -> Arrivals:
    """Draw the requests of the first `until_ms` from a table of clients.

    The law's shape is kept, and its scale is set so that the window's published rate holds: the
    fitted scales alone would send 7 % too much (M-large), and in some windows thousands of times.
    Lengths follow the client's published quantiles; without a table, those of Azure's chat trace.

    Raises:
        ContractError: in one line, `name:line: what, value`, or too many requests were asked for.
    """
    windows = [w for w in _windows(clients, name) if w.begin_ms < until_ms]
    if not windows:
        raise ContractError(f"{name}:2: it has no window before {until_ms / 1000:g} s")
    expected = sum(w.rate_per_ms * min(WINDOW_MS, until_ms - w.begin_ms) for w in windows)
    if expected > REQUESTS_MAX:
        raise ContractError(
            f"{name}:1: describes {expected:.0f} requests in {until_ms / 1000:g} s, "
            f"more than {REQUESTS_MAX}; ask for a shorter time"
        )
    known = _read_lengths(lengths, name) if lengths is not None else {}
    parts = []
    for window in windows:
        at_ms = window.begin_ms + _renewals(window, min(WINDOW_MS, until_ms - window.begin_ms), rng)
        tokens = (
            _draw_tokens(_quantiles_of(known, field, window), len(at_ms), rng)
            for field in UNKNOWN_CLIENT
        )
        parts.append((at_ms, *tokens))
    at_ms, prompts, outputs = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at_ms, kind="stable")
    return Arrivals(
        at_ms[order], prompts[order], outputs[order], label="ServeGen, synthetic", source=name
    )


def _windows(lines: Iterable[str], name: str) -> Iterator[Window]:
    for number, row in _rows(lines, CLIENTS, name):
        client, begin_s, rate, _, pattern, shape, scale = row
        try:
            numbers = [float(cell) for cell in (begin_s, rate, shape, scale)]
        except ValueError as error:
            raise ContractError(f"{name}:{number}: not numbers, {','.join(row)!r}") from error
        if pattern not in ("Gamma", "Weibull"):
            raise ContractError(f"{name}:{number}: a law of unknown pattern, {pattern!r}")
        begin, rate_rps, shape_value, _ = numbers
        if not (all(map(math.isfinite, numbers)) and begin >= 0 and rate_rps >= 0):
            raise ContractError(f"{name}:{number}: time or rate below 0, {','.join(row)!r}")
        if shape_value <= 0:
            raise ContractError(f"{name}:{number}: a shape that is not above 0, {shape}")
        if rate_rps > 0:
            yield Window(client, begin * 1000, rate_rps / 1000, pattern == "Gamma", shape_value)


def _read_lengths(lines: Iterable[str], name: str) -> Lengths:
    known: Lengths = {field: {} for field in UNKNOWN_CLIENT}
    for number, (client, begin_s, field, *cells) in _rows(lines, LENGTHS, f"{name}, lengths"):
        if field in known:
            try:
                begin, _, p50, p90, p99 = (float(cell) for cell in (begin_s, *cells))
            except ValueError as error:
                raise ContractError(f"{name}, lengths:{number}: not numbers, {cells}") from error
            known[field].setdefault(client, []).append((begin * 1000, (p50, p90, p99)))
    for of_client in known.values():
        for windows in of_client.values():
            windows.sort()
    return known


def _rows(lines: Iterable[str], header: str, name: str) -> Iterator[tuple[int, list[str]]]:
    rows = iter(lines)
    if (first := next(rows, "").lstrip("\ufeff").strip()) != header:
        raise ContractError(f"{name}:1: expected the columns {header}; found {first[:100]!r}")
    for number, row in enumerate(rows, 2):
        if row.strip():
            cells = row.strip().split(",")
            if len(cells) != header.count(",") + 1:
                raise ContractError(f"{name}:{number}: not the columns {header}, {row.strip()!r}")
            yield number, cells


def _renewals(window: Window, span_ms: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw a renewal process in equilibrium, so that its rate holds in each part of the window."""
    k = window.shape
    mean = k if window.gamma else math.gamma(1 + 1 / k)
    scale_ms = 1 / (window.rate_per_ms * mean)

    def gaps_ms(count: int) -> npt.NDArray[np.float64]:
        return scale_ms * (rng.gamma(k, size=count) if window.gamma else rng.weibull(k, count))

    # The first gap is the rest of a length-biased one: bias adds one to a gamma's shape; a Weibull
    # is an exponential to the power 1/k, and its bias makes that a gamma of shape 1 + 1/k.
    biased = rng.gamma(k + 1) if window.gamma else rng.gamma(1 + 1 / k) ** (1 / k)
    at_ms = np.array([rng.uniform() * scale_ms * biased])
    while at_ms[-1] < span_ms:
        missing = int((span_ms - at_ms[-1]) * window.rate_per_ms * 1.2) + 64
        at_ms = np.concatenate([at_ms, at_ms[-1] + np.cumsum(gaps_ms(missing))])
    return at_ms[at_ms < span_ms]


def _quantiles_of(known: Lengths, field: str, window: Window) -> Quantiles:
    """Find the client's summary: of the latest window that has one, else of its first."""
    windows = known.get(field, {}).get(window.client)
    if not windows:
        return UNKNOWN_CLIENT[field]
    found = bisect_right(windows, window.begin_ms, key=lambda entry: entry[0])
    return windows[max(0, found - 1)][1]


def _draw_tokens(
    quantiles: Quantiles, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """Draw lengths, straight in the logarithm between p50, p90 and p99, mirrored below the median.

    Above p99 nothing is known: it ends there. At least one token each.
    """
    p50, p90, p99 = np.maximum.accumulate(np.maximum(quantiles, 1.0))
    points = np.log([p50 * p50 / p90, p50, p90, p99])
    lengths = np.exp(np.interp(rng.uniform(size=count), [0.1, 0.5, 0.9, 0.99], points))
    return np.maximum(1, np.rint(lengths)).astype(np.int32)
