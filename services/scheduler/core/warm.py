"""Compiles the kernels, or reads them from the cache on disk: to be called before time matters.

The first time after a change of their text it takes some ten seconds of one core, else 0.3 s. The
cache lies beside the sources, or where `NUMBA_CACHE_DIR` says.
"""

from typing import Any

import numpy as np

from services.scheduler.core.contracts import (
    QUANTILES,
    Bools,
    Floats,
    Ints,
    Observation,
    initial_state,
)
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy

# By what a field holds, an array of it without a row; the fields of more dimensions stand below.
_EMPTY: dict[Any, Any] = {
    Floats: np.zeros(0),
    Ints: np.zeros(0, np.int64),
    Bools: np.zeros(0, np.bool_),
    tuple[str, ...]: (),
    int: 0,
    bool: False,
}


def warm() -> None:
    """Decide once for one GPU, which reports, and no model: this uses each kernel."""
    one = np.zeros(1, np.int64)
    nothing = {name: _EMPTY[kind] for name, kind in Observation.__annotations__.items()}
    seen = Observation(**nothing)._replace(
        device_types=("g",),
        alpha_ms=np.zeros((0, 1)),
        beta_ms=np.zeros((0, 1)),
        lead_time_ms=np.zeros((0, 1)),
        horizon_ms=np.zeros((0, 0)),
        peak_rps=np.zeros((0, 0, len(QUANTILES))),
        closed=np.zeros(1, np.int64),
        devices=("n/0",),
        nodes=("n",),
        device_node=one,
        device_gpu=one,
        device_type=one,
        node_score=np.zeros(1),
        reported_ms=one,
        memory_total=one,
        memory_free=one,
        replica_devices=np.zeros((0, 1), np.int64),
    )
    decide(initial_state(), seen, Policy())
