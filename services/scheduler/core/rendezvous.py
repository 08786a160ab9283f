"""Weighted rendezvous hashing: a preference between places that hardly changes when places do.

Each (key, place) draws a number of its own, and the greatest wins; a place that comes or goes moves
only what it wins or had won. Thaler and Ravishankar 1998; the weights after Schindelhauer and
Schomaker 2005: a place of twice the weight wins twice as often. Names are digested once; from two
digests a draw takes nanoseconds, so that ten thousands of places can be asked.
"""

from functools import lru_cache
from hashlib import blake2b
from math import log

import numpy as np
import numpy.typing as npt

from services.scheduler.core.jit import entry, kernel

Digests = npt.NDArray[np.uint64]


@lru_cache(maxsize=8)
def digests(names: tuple[str, ...]) -> Digests:
    """Return a number for each name, the same for ever. The last answers are kept."""
    whole = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(bytearray(whole), dtype="<u8").astype(np.uint64)


@entry
def preference(key: np.uint64, place: np.uint64, weight: float) -> float:
    """Return how much `key` likes `place`, both digested; the greatest over all places wins."""
    draw = (_mixed(key ^ _mixed(place)) >> np.uint64(11)) * 2.0**-53
    return -weight / log(draw + 2.0**-54)  # draw: in (0, 1)


@kernel
def _mixed(x: np.uint64) -> np.uint64:
    """Return the output of SplitMix64 (Steele, Lea and Flood 2014) for this state."""
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
