"""Compiles the kernels, or reads them from the cache on disk: to be called before time matters.

The first time after a change of their text it takes some seconds of one core, else a fraction of
one. The cache lies beside the sources, or where `NUMBA_CACHE_DIR` says.
"""

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from services.predictor.core import lifts
from services.predictor.core import source as sources
from services.predictor.core.registry import NOTHING_DECLARED
from services.predictor.core.residuals import QUANTILES
from services.predictor.core.source import Policy, Sight
from services.predictor.core.triggers import NOTHING_KNOWN, Lift


def warm() -> None:
    """Use each kernel once, on a source of one model."""
    layout = pb.Layout(layout_id="warm", series=[pb.Series(metric=series.ARRIVALS, model="m")])
    source = sources.begin(layout, NOTHING_DECLARED, Policy())
    sources.see(source, Sight(layout, "warm", 1, 1, np.zeros(1)), Policy())
    sources.foresee(source, Policy())
    one = lifts.table([Lift(0, 1, 2, 1.0, 0.0)], 0)
    mean, band = np.ones(1), np.ones((1, len(QUANTILES)))
    lifts.count_in(
        one, NOTHING_KNOWN.gains, lifts.ranks(QUANTILES), np.ones(1), mean, band, band.copy()
    )
