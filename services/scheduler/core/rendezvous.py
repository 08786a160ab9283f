"""Weighted rendezvous hashing: a preference between places that hardly changes when places do.

Each (key, place) draws a number of its own, and the greatest wins; a place that comes or goes moves
only what it wins or had won. Thaler and Ravishankar 1998; the weights after Schindelhauer and
Schomaker 2005: a place of twice the weight wins twice as often.
"""

from functools import lru_cache
from hashlib import blake2b
from math import log


def preference(key: str, place: str, weight: float) -> float:
    """Return how much `key` likes `place`; the greatest over all places wins."""
    return -weight / log(_draw(key, place))


@lru_cache(maxsize=100_000)
def _draw(key: str, place: str) -> float:
    """Return a number in (0, 1), the same for ever for the same names."""
    digest = blake2b(f"{key}\n{place}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") + 0.5) / 2**64
