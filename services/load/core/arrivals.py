"""What is sent and when: the arrivals of each model, laid over one another in due order.

Times are milliseconds from the start of the load. Nothing here knows where arrivals come from.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# A copy of a trace begins within its first minute, so that copies do not beat in step.
LONGEST_SHIFT_MS = 60_000.0


class Prefixes(NamedTuple):
    """The prompts as chains of blocks; an equal block id says that all up to its end is equal."""

    offsets: npt.NDArray[np.int64]  # (requests + 1,): request i has blocks[offsets[i]:offsets[i+1]]
    blocks: npt.NDArray[np.int64]
    block_tokens: int  # of each block but the last of a prompt, which may be shorter


class Arrivals(NamedTuple):
    """Requests of one model in due order. Arrays are (requests,); a batch model has 0 tokens."""

    at_ms: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]
    prefixes: Prefixes | None = None
    label: str = ""  # what reports call it; says "synthetic" where it was drawn
    source: str = ""  # the file that it was read from


class Plan(NamedTuple):
    """Requests of all models in due order. Arrays are (requests,)."""

    models: tuple[str, ...]
    model: npt.NDArray[np.int64]  # positions in `models`
    at_ms: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]


def superpose(
    trace: Arrivals, copies: int, duration_ms: float, rng: np.random.Generator
) -> Arrivals:
    """Lay `copies` of a trace over each other and keep [0, `duration_ms`).

    More copies are more users, so time is not squeezed: the first copy plays as published, each
    other one begins up to 60 s into the trace. A trace that is too short leaves the end empty.
    Other users have other prompts: a copy shares no prefix with another.
    """
    begins_ms = rng.uniform(0.0, LONGEST_SHIFT_MS, copies)
    begins_ms[0] = 0.0
    at_ms = (trace.at_ms[None, :] - begins_ms[:, None]).ravel()
    kept = np.flatnonzero((at_ms >= 0) & (at_ms < duration_ms))
    order = kept[np.argsort(at_ms[kept], kind="stable")]
    copy, source = np.divmod(order, len(trace.at_ms))
    return Arrivals(
        at_ms[order],
        trace.prompt_tokens[source],
        trace.output_tokens[source],
        None if trace.prefixes is None else _take(trace.prefixes, source, copy),
        trace.label if copies == 1 else f"{trace.label}, {copies} copies",
        trace.source,
    )


def select(arrivals: Arrivals, kept: npt.NDArray[np.bool_]) -> Arrivals:
    """Keep the requests of a mask."""
    positions = np.flatnonzero(kept)
    prefixes = arrivals.prefixes
    return arrivals._replace(
        at_ms=arrivals.at_ms[positions],
        prompt_tokens=arrivals.prompt_tokens[positions],
        output_tokens=arrivals.output_tokens[positions],
        prefixes=prefixes and _take(prefixes, positions, np.zeros_like(positions)),
    )


def merge(arrivals: Mapping[str, Arrivals]) -> Plan:
    """Put the arrivals of all models in one due order; ties keep the order of the models."""
    parts = list(arrivals.values())
    model = np.repeat(np.arange(len(parts)), [len(part.at_ms) for part in parts])
    at_ms = np.concatenate([part.at_ms for part in parts])
    order = np.argsort(at_ms, kind="stable")
    return Plan(
        tuple(arrivals),
        model[order],
        at_ms[order],
        np.concatenate([part.prompt_tokens for part in parts])[order],
        np.concatenate([part.output_tokens for part in parts])[order],
    )


def _take(prefixes: Prefixes, rows: npt.NDArray[np.int64], copy: npt.NDArray[np.int64]) -> Prefixes:
    """Gather the blocks of some requests; those of another copy get ids of their own."""
    counts = np.diff(prefixes.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    source = np.repeat(prefixes.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
    ids = 1 + (prefixes.blocks.max() if prefixes.blocks.size else 0)
    blocks = prefixes.blocks[source] + np.repeat(copy, counts) * ids
    return Prefixes(offsets, blocks, prefixes.block_tokens)
