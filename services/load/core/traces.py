"""Reads request traces in the formats that are published, told apart by what stands in them.

- Azure LLM inference (Azure/AzurePublicDataset): TIMESTAMP,ContextTokens,GeneratedTokens. The 2023
  files have seven fractional digits and no zone, the 2024 ones add `+00:00`.
- BurstGPT (HPMLL/BurstGPT): Timestamp (s),Model,Request tokens,Response tokens,Total tokens,Log
  Type; newer files have more columns. A failed request has no response tokens and is left out.
- Mooncake (kvcache-ai/Mooncake): JSON lines of timestamp (ms), input_length, output_length and
  hash_ids, the prompt's blocks of 512 tokens.
- Ours: arrival_s,model,prompt_tokens,output_tokens; for batch models arrival_s,model. Seconds count
  from the start of the load.

ServeGen's tables are laws, not requests: `servegen.py` draws from them.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from libs.common.errors import ContractError
from services.load.core.arrivals import Arrivals, Prefixes, select

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Model", "Request tokens", "Response tokens")
PLAIN = ("arrival_s", "model", "prompt_tokens", "output_tokens")
PLAIN_BATCH = PLAIN[:2]
MOONCAKE = ("timestamp", "input_length", "output_length")
MOONCAKE_BLOCK_TOKENS = 512
EXPECTED = (
    "a CSV with the columns "
    + ", or ".join(",".join(columns) for columns in (AZURE, PLAIN, PLAIN_BATCH, BURSTGPT))
    + f", or JSON lines of {','.join(MOONCAKE)}, or a ServeGen table of clients"
)
# Rows parsed at a time, more and more: a file of a week is not read to its end for two minutes of
# load, and a million rows are parsed by the column.
FIRST_CHUNK_ROWS = 1000
LARGEST_CHUNK_ROWS = 64_000
TOKENS_BELOW = 2**31
BLOCKS_BELOW = 2**53  # copies of a trace count on from there
SECONDS_BELOW = 366 * 86_400.0  # more is a date, not a time from the start
NONE = np.empty(0, np.int64)


class Rows(NamedTuple):
    """Some rows by the column. Arrays are (rows,)."""

    time: npt.NDArray[np.int64] | npt.NDArray[np.float64]  # ns, s or ms, as the format has it
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    models: Sequence[str] = ()
    block_counts: npt.NDArray[np.int64] = NONE
    blocks: npt.NDArray[np.int64] = NONE


class Format(NamedTuple):
    """How one kind of file is read."""

    label: str
    ms_per_time: float
    from_first: bool  # time counts from the first request; otherwise as written
    read: Callable[[list[str]], Rows]  # raises ValueError, which says what is wrong
    header: bool = True
    failures: bool = False  # no output tokens: the request failed


def parse(lines: Iterable[str], name: str, until_ms: float, model: str = "") -> Arrivals:
    """Read the requests of the first `until_ms` of a trace.

    A file of ours that names several models gives the requests of `model`; one that names a
    single one gives all, whatever the name.

    Raises:
        ContractError: in one line, `name:line: what, value`: no known columns, a row that cannot
            be read, negative lengths, rows out of order, no request, or none of `model`.
    """
    rows = iter(lines)
    first = next(rows, "").lstrip("\ufeff").rstrip()
    form = _recognise(first, name)
    number = 1
    if form.header:
        number = 2
    else:
        rows = chain([first], rows)
    parts: list[Rows] = []
    begin, last = None, None
    size = FIRST_CHUNK_ROWS
    while chunk := list(islice(rows, size)):
        part = _read(form, chunk, name, number, last)
        number += len(chunk)
        size = min(2 * size, LARGEST_CHUNK_ROWS)
        if not len(part.time):
            continue
        parts.append(part)
        if begin is None:
            begin = part.time[0] if form.from_first else 0
        last = part.time[-1]
        if (last - begin) * form.ms_per_time >= until_ms:
            break
    if begin is None:
        raise ContractError(f"{name}:{number}: it ends with no request, {number - 1} lines read")
    time = np.concatenate([part.time for part in parts])
    arrivals = Arrivals(
        (time - begin) * form.ms_per_time,
        np.concatenate([part.prompt_tokens for part in parts]),
        np.concatenate([part.output_tokens for part in parts]),
        _prefixes(parts),
        form.label,
        name,
    )
    if form.failures and (failed := np.count_nonzero(arrivals.output_tokens == 0)):
        kept = select(arrivals, arrivals.output_tokens > 0)
        return kept._replace(label=f"{form.label}, {failed} failed requests left out")
    return _of_model(arrivals, list(chain.from_iterable(p.models for p in parts)), name, model)


def _recognise(first: str, name: str) -> Format:
    if first.startswith("{"):
        return Format("Mooncake", 1.0, False, _read_mooncake, header=False)
    columns = [column.strip() for column in first.split(",")]
    if set(AZURE) <= set(columns):
        return Format("Azure LLM trace", 1e-6, True, _csv(columns, AZURE[0], _moments, AZURE[1:]))
    if set(BURSTGPT) <= set(columns):
        read = _csv(columns, BURSTGPT[0], _seconds, BURSTGPT[2:])
        return Format("BurstGPT", 1e3, True, read, failures=True)
    if set(columns) in (set(PLAIN), set(PLAIN_BATCH)):
        tokens = PLAIN[2:] if len(columns) > 2 else ()
        return Format("plain", 1e3, False, _csv(columns, PLAIN[0], _seconds, tokens, PLAIN[1]))
    raise ContractError(f"{name}:1: expected {EXPECTED}; found {first[:100] or 'nothing'}")


def _read(form: Format, chunk: list[str], name: str, number: int, last: Any) -> Rows:
    """Read a chunk by the column; if anything in it is wrong, find the first line that is."""
    try:
        part = form.read([row for row in map(str.rstrip, chunk) if row])
        time = part.time if last is None else np.concatenate([[last], part.time])
        if (np.diff(time) >= 0).all():
            return part
    except ValueError:
        pass
    for line, row in enumerate(map(str.rstrip, chunk), number):
        if not row:
            continue
        try:
            time = form.read([row]).time[0]
        except ValueError as error:
            raise ContractError(f"{name}:{line}: {error}, {row[:100]!r}") from error
        if last is not None and time < last:
            raise ContractError(f"{name}:{line}: out of order of time, {row[:100]!r}")
        last = time
    raise AssertionError("a chunk is refused, and each of its rows is fine")


def _csv(
    columns: list[str],
    time: str,
    clock: Callable[[Sequence[str]], npt.NDArray[Any]],
    tokens: Sequence[str],
    model: str = "",
) -> Callable[[list[str]], Rows]:
    def read(rows: list[str]) -> Rows:
        cells = [row.split(",") for row in rows]
        if any(len(row) != len(columns) for row in cells):
            raise ValueError(f"not the {len(columns)} columns of the first line")
        by_column = dict(zip(columns, zip(*cells, strict=True), strict=True)) if rows else {}
        column = {name: by_column.get(name, ()) for name in columns}
        counts = [_counts(name, column[name]) for name in tokens]
        none = np.zeros(len(rows), np.int32)
        prompts, outputs = counts or (none, none)
        models = tuple(map(str.strip, column[model])) if model else ()
        if model and not all(models):
            raise ValueError("no model is named")
        return Rows(clock(column[time]), prompts, outputs, models)

    return read


def _moments(cells: Sequence[str]) -> npt.NDArray[np.int64]:
    """Read moments in UTC as ns; numpy's words for other times (now, NaT) are no moments."""
    if not cells:
        return np.empty(0, np.int64)
    text = np.array([cell.strip().removesuffix("+00:00") for cell in cells])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy only warns of a zone
        try:
            if ((text < "0") | (text >= ":")).any():
                raise ValueError
            return text.astype("datetime64[ns]").astype(np.int64)
        except (ValueError, UserWarning, DeprecationWarning) as error:
            raise ValueError("its time is not a moment in UTC") from error


def _seconds(cells: Sequence[str]) -> npt.NDArray[np.float64]:
    try:
        seconds = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError as error:
        raise ValueError("its time is not a number of seconds") from error
    if not (seconds >= 0).all():
        raise ValueError("its time is negative or no number")
    if not (seconds < SECONDS_BELOW).all():
        raise ValueError("its time is more than a year from the start")
    return seconds


def _counts(name: str, cells: Sequence[Any]) -> npt.NDArray[np.int32]:
    try:
        counts = np.fromiter(map(int, cells), np.int64, len(cells))
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{name} is not a whole number") from error
    if (counts < 0).any():
        raise ValueError(f"{name} is negative")
    if (counts >= TOKENS_BELOW).any():
        raise ValueError(f"{name} is not below 2^31")
    return counts.astype(np.int32)


def _read_mooncake(rows: list[str]) -> Rows:
    try:
        records = json.loads("[" + ",".join(rows) + "]")
    except json.JSONDecodeError as error:
        raise ValueError("not a JSON object") from error
    if len(records) != len(rows) or not all(isinstance(record, dict) for record in records):
        raise ValueError("not one JSON object")
    try:
        times, prompts, outputs = ([record[key] for record in records] for key in MOONCAKE)
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    if not all(type(time) in (int, float) and 0 <= time < 1e3 * SECONDS_BELOW for time in times):
        raise ValueError("its timestamp is not a time in ms from the start")
    if not all(type(count) is int for count in chain(prompts, outputs)):
        raise ValueError("a length is not a whole number")
    chains = [record.get("hash_ids", ()) for record in records]
    if not all(isinstance(ids, list | tuple) for ids in chains):
        raise ValueError("hash_ids is not a list")
    blocks = np.array(list(chain.from_iterable(chains)) or NONE)
    if blocks.dtype != np.int64 or (blocks < 0).any() or (blocks >= BLOCKS_BELOW).any():
        raise ValueError("hash_ids are not whole numbers from 0 and below 2^53")
    return Rows(
        np.array(times, np.float64),
        _counts(MOONCAKE[1], prompts),
        _counts(MOONCAKE[2], outputs),
        block_counts=np.fromiter(map(len, chains), np.int64, len(chains)),
        blocks=blocks,
    )


def _prefixes(parts: list[Rows]) -> Prefixes | None:
    counts = np.concatenate([part.block_counts for part in parts])
    if not counts.any():
        return None
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Prefixes(offsets, np.concatenate([part.blocks for part in parts]), MOONCAKE_BLOCK_TOKENS)


def _of_model(arrivals: Arrivals, models: list[str], name: str, model: str) -> Arrivals:
    named = sorted(set(models))
    if len(named) < 2:
        return arrivals
    if model not in named:
        raise ContractError(
            f"{name}:1: requests of {len(named)} models, {', '.join(named)[:100]}, "
            f"none of {model or 'which one is not said'}"
        )
    return select(arrivals, np.array(models) == model)
