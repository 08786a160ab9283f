"""Mean prompt and answer length of each model's recent requests."""

from typing import NamedTuple

import numpy as np

from services.predictor.core.columns import Floats

MEMORY_S = 30.0


class Tokens(NamedTuple):
    """Sums over ended requests, (models,), the older ones counting less."""

    ends: Floats
    prompt: Floats
    output: Floats


def nothing_seen(models: int) -> Tokens:
    """Return the state of models never seen."""
    return Tokens(np.zeros(models), np.zeros(models), np.zeros(models))


def add(sums: Tokens, grown: Floats, elapsed_s: float) -> Tokens:
    """Take in what ends, prompt and output tokens grew by, (3, models)."""
    kept = np.exp(-elapsed_s / MEMORY_S)
    grown = np.where(np.isnan(grown).any(axis=0), 0.0, grown)
    return Tokens(*(kept * old + new for old, new in zip(sums, grown, strict=True)))


def means(sums: Tokens) -> tuple[Floats, Floats]:
    """Return prompt and output tokens a request, (models,) each; NaN where none has ended."""
    # What has decayed to a thousandth of a request is the memory of one, and tells nothing.
    ends = np.where(sums.ends > 1e-3, sums.ends, np.nan)
    return sums.prompt / ends, sums.output / ends
