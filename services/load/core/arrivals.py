"""What is sent and when: the arrivals of each model, laid over one another in due order.

Times are milliseconds from the start of the load. Nothing here knows where arrivals come from.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# A copy of a trace begins within its first minute, so that copies do not beat in step.
LONGEST_SHIFT_MS = 60_000.0


class Arrivals(NamedTuple):
    """Requests of one model in due order. Arrays are (requests,)."""

    at_ms: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]


class Plan(NamedTuple):
    """Requests of all models in due order. Arrays are (requests,)."""

    models: tuple[str, ...]
    model: npt.NDArray[np.int64]  # positions in `models`
    at_ms: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int64]
    output_tokens: npt.NDArray[np.int64]


def superpose(
    trace: Arrivals, copies: int, duration_ms: float, rng: np.random.Generator
) -> Arrivals:
    """Lay `copies` of a trace over each other and keep [0, `duration_ms`).

    More copies are more users, so time is not squeezed: the first copy plays as published, each
    other one begins up to 60 s into the trace. A trace that is too short leaves the end empty.
    """
    begins_ms = rng.uniform(0.0, LONGEST_SHIFT_MS, copies)
    begins_ms[0] = 0.0
    at_ms = (trace.at_ms[None, :] - begins_ms[:, None]).ravel()
    source = np.tile(np.arange(len(trace.at_ms)), copies)
    kept = np.flatnonzero((at_ms >= 0) & (at_ms < duration_ms))
    order = kept[np.argsort(at_ms[kept], kind="stable")]
    return Arrivals(
        at_ms[order], trace.prompt_tokens[source[order]], trace.output_tokens[source[order]]
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
