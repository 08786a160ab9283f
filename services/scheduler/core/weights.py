"""A rule for the split of a GPU between serving and training that is in use elsewhere.

Both sides get a weight, and shares in proportion:

    train = 1 / (latency_ratio + 1e-5)        infer = gpu_util + 0.5 x (1 - latency_ratio)

`latency_ratio` is p98 of latency / objective, `gpu_util` how much of the GPU the load takes. It is
here to be compared with: where latency nears its objective both weights fall, and beyond 1 that of
serving falls faster, so that a GPU in trouble trains the more.
"""

import math

from services.scheduler.core.jit import entry

EPSILON = 1e-5
RELIEF = 0.5


@entry
def serving_weight(latency_ratio: float, gpu_util: float) -> float:
    """Return the share of serving, in [0, 1]; an unknown ratio counts as 1, just in time.

    Weights below 0 count as 0: a share is none.
    """
    ratio = 1.0 if math.isnan(latency_ratio) else max(latency_ratio, 0.0)
    train = 1.0 / (ratio + EPSILON)
    infer = max(gpu_util + RELIEF * (1.0 - ratio), 0.0)
    return infer / (infer + train)
