"""What a batch takes on each device type: the registry's figures, corrected by measured.

Least squares with forgetting, kept as sums so that a lost tick loses nothing; the registry counts
as two observations that are never forgotten. One record a pair of model and device type, which
holds its load times, too.
"""

import math

import numpy as np

from services.predictor.core import load_times
from services.predictor.core.jit import Row, Table, entry, record

MEMORY_BATCHES = 500.0  # a batch counts half after 350 more
# A fit beyond these shares of the registry's beta is noise, and would divide by nearly nothing.
BETA_SHARE_MIN = 0.01

# Sums over finished batches of size b that took s ms, the older ones counting less.
SUMS = record(
    {
        "n": "f8",
        "b": "f8",
        "s": "f8",
        "bb": "f8",
        "bs": "f8",
        "seen": "f8",  # batches in all, none forgotten
        **load_times.FIELDS,
    }
)
# What is declared; NaN: nothing.
PRIOR = record({"alpha_ms": "f8", "beta_ms": "f8", "batch_max": "f8", "load_ms": "f8"})


def nothing_measured(pairs: int) -> Table:
    """Return the sums before the first batch and the first load."""
    return np.zeros(pairs, SUMS)


@entry
def add_batches(sums: Row, n: float, b: float, s: float, bb: float, bs: float) -> None:
    """Take in what the five sums grew by; NaN in one passes all over.

    With a memory of infinitely many batches, this is ordinary least squares.
    """
    if math.isnan(n + b + s + bb + bs):
        return
    kept = math.exp(-n / MEMORY_BATCHES)
    sums.n = kept * sums.n + n
    sums.b = kept * sums.b + b
    sums.s = kept * sums.s + s
    sums.bb = kept * sums.bb + bb
    sums.bs = kept * sums.bs + bs
    sums.seen += n


@entry
def fit(sums: Row, prior: Row) -> tuple[float, float]:
    """Return alpha and beta of s(b) = alpha + beta b, in ms; NaN where no prior is.

    The prior counts as one batch of 1 and one of the largest size (`batch_max`, at least 2 here)
    that took the times it says. So the fit is defined when all batches had one size: then only the
    time at that size is learned. Alpha is never negative, beta always positive.
    """
    if math.isnan(prior.alpha_ms + prior.beta_ms + prior.batch_max):
        return math.nan, math.nan
    largest = max(prior.batch_max, 2.0)
    took_one = prior.alpha_ms + prior.beta_ms
    took_largest = prior.alpha_ms + prior.beta_ms * largest
    n, b, bb = sums.n + 2, sums.b + 1 + largest, sums.bb + 1 + largest**2
    s = sums.s + took_one + took_largest
    bs = sums.bs + took_one + took_largest * largest
    beta_min = BETA_SHARE_MIN * prior.beta_ms
    beta = max((n * bs - b * s) / (n * bb - b**2), beta_min)
    alpha = (s - beta * b) / n
    if alpha < 0:
        # Where the best line starts below zero, the best one through zero is wanted.
        return 0.0, max(bs / bb, beta_min)
    return alpha, beta
