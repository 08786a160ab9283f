"""Reads request traces as Azure publishes them: TIMESTAMP,ContextTokens,GeneratedTokens.

Source: Azure/AzurePublicDataset, `AzureLLMInferenceTrace_*.csv`. The 2023 files have seven
fractional digits and no zone, the 2024 ones add `+00:00`; both are in order of time.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from libs.common.errors import ContractError
from services.load.core.arrivals import Arrivals

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# Rows parsed at a time: a file of a week is not read to its end for two minutes of load.
CHUNK_ROWS = 1000


def parse(lines: Iterable[str], name: str, until_ms: float) -> Arrivals:
    """Read the rows of the first `until_ms` of a trace; time counts from its first request.

    Raises:
        ContractError: in one line, with `name`: other columns, a row that cannot be read, rows
            out of order, or no row at all.
    """
    rows = iter(lines)
    header = next(rows, "").lstrip("\ufeff").strip()
    if tuple(header.split(",")) != COLUMNS:
        raise ContractError(
            f"{name}: expected the columns {','.join(COLUMNS)}, found {header[:100] or 'nothing'}"
        )
    parts: list[Arrivals] = []
    first_ns: int | None = None
    number = 2
    while chunk := list(islice(rows, CHUNK_ROWS)):
        at_ns, prompts, outputs = zip(*_cells(chunk, name, number), strict=True)
        first_ns = at_ns[0] if first_ns is None else first_ns
        at_ms = (np.array(at_ns, dtype=np.int64) - first_ns) / 1e6
        last_ms = parts[-1].at_ms[-1] if parts else 0.0
        if at_ms[0] < last_ms or (np.diff(at_ms) < 0).any():
            raise ContractError(f"{name}: rows {number} and on are not in order of time")
        parts.append(Arrivals(at_ms, np.array(prompts), np.array(outputs)))
        number += len(chunk)
        if at_ms[-1] >= until_ms:
            break
    if not parts:
        raise ContractError(f"{name}: has the expected columns, but no request")
    return Arrivals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _cells(rows: list[str], name: str, number: int) -> Iterator[tuple[int, int, int]]:
    """Split rows into (epoch ns, prompt tokens, output tokens)."""
    for line, row in enumerate(rows, number):
        try:
            at, prompt, output = row.strip().split(",")
            moment = np.datetime64(at.removesuffix("+00:00"), "ns")
            counts = int(prompt), int(output)
            if np.isnat(moment) or min(counts) < 0:
                raise ValueError
        except ValueError as error:
            raise ContractError(
                f"{name}: row {line} is not a time and two counts: {row.strip()[:100]!r}"
            ) from error
        yield int(moment.astype(np.int64)), *counts
