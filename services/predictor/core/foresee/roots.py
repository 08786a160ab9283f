"""The root scale: where a count's noise hardly depends on its size, and back from it.

The square root steadies the variance of Poisson-like series (Bartlett, 1936), and of the many that
swing by a share of their size it makes half a logarithm of which zero is no trouble. Squares are
never negative, so neither is a forecast. A series that can be negative stays as it is.
"""

import math

from services.predictor.core.foresee.jit import kernel

PLAIN, ROOT = 0, 1


@kernel
def root(value: float, form: int) -> float:
    """Return a value of the series on the root scale; what lies below 0 counts as 0."""
    if form == PLAIN:
        return value
    return math.sqrt(max(value, 0.0))


@kernel
def unroot(z: float, form: int, upper: float) -> float:
    """Return what a point of the root scale means, within [0, upper], or without a lower bound."""
    if form == PLAIN:
        return min(z, upper)
    z = max(z, 0.0)
    return min(z * z, upper)
