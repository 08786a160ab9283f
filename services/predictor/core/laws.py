"""What a batch and a load take on each device type: the registry's figures, corrected by measured.

Both are least squares with forgetting, kept as sums so that a lost tick loses nothing, and both
count the registry as a few observations that are never forgotten. Rows are (model, device type).
"""

from typing import NamedTuple

import numpy as np

from services.predictor.core.columns import Floats

MEMORY_BATCHES = 500.0  # a batch counts half after 350 more
MEMORY_LOADS = 5.0
# A fit beyond these shares of the registry's beta is noise, and would divide by nearly nothing.
BETA_SHARE_MIN = 0.01


class Batches(NamedTuple):
    """Sums over finished batches of size b that took s ms, the older ones counting less."""

    n: Floats
    b: Floats
    s: Floats
    bb: Floats
    bs: Floats
    seen: Floats  # how many in all, none forgotten


class Loads(NamedTuple):
    """Sums over finished loads, the older ones counting less."""

    n: Floats
    ms: Floats


def no_batches(pairs: int) -> Batches:
    """Return the state before the first batch."""
    return Batches(*(np.zeros(pairs) for _ in Batches._fields))


def no_loads(pairs: int) -> Loads:
    """Return the state before the first load."""
    return Loads(np.zeros(pairs), np.zeros(pairs))


def add_batches(sums: Batches, grown: Floats) -> Batches:
    """Take in what the five sums of `Batches` grew by, (5, pairs); a row with NaN is passed over.

    With a memory of infinitely many batches, this is ordinary least squares.
    """
    grown = np.where(np.isnan(grown).any(axis=0), 0.0, grown)
    kept = np.exp(-grown[0] / MEMORY_BATCHES)
    n, b, s, bb, bs = kept * np.stack(sums[:5]) + grown
    return Batches(n, b, s, bb, bs, sums.seen + grown[0])


def fit(sums: Batches, prior: Floats, largest: Floats) -> Floats:
    """Return alpha and beta of s(b) = alpha + beta b, (2, pairs), in ms; NaN where no prior is.

    The prior, (2, pairs), counts as one batch of 1 and one of `largest` (a model's batch_max, at
    least 2 here) that took the times it says. So the fit is defined when all batches had one size:
    then only the time at that size is learned. Alpha is never negative, beta always positive.
    """
    largest = np.maximum(largest, 2.0)
    took_one = prior[0] + prior[1]
    took_largest = prior[0] + prior[1] * largest
    n, b, bb = sums.n + 2, sums.b + 1 + largest, sums.bb + 1 + largest**2
    s = sums.s + took_one + took_largest
    bs = sums.bs + took_one + took_largest * largest
    beta_min = BETA_SHARE_MIN * prior[1]
    beta = np.maximum((n * bs - b * s) / (n * bb - b**2), beta_min)
    alpha = (s - beta * b) / n
    # Where the best line starts below zero, the best one through zero is wanted.
    beta = np.where(alpha < 0, np.maximum(bs / bb, beta_min), beta)
    return np.stack((alpha.clip(min=0), beta))


def add_loads(sums: Loads, grown: Floats) -> Loads:
    """Take in by how much loads and their milliseconds grew, (2, pairs)."""
    grown = np.where(np.isnan(grown).any(axis=0), 0.0, grown)
    kept = np.exp(-grown[0] / MEMORY_LOADS)
    return Loads(kept * sums.n + grown[0], kept * sums.ms + grown[1])


def load_ms(sums: Loads, prior_ms: Floats) -> Floats:
    """Return the load time to expect; the registry's, `prior_ms`, counts as one load.

    NaN where the registry does not say it and none was measured.
    """
    known = ~np.isnan(prior_ms)
    n = sums.n + known
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, (sums.ms + np.where(known, prior_ms, 0.0)) / n, np.nan)
