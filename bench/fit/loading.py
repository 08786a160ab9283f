"""How long production took to load models: shapes of distributions, no rates.

The publisher scaled the metrics and names no sizes, so bytes per second cannot be had from it; what
can be had is how far loads of one kind spread.
"""

from pathlib import Path
from typing import Any

import numpy as np

from bench.fit.profiles import GENAI_STAGES, read

QUANTILES = (0.1, 0.5, 0.9, 0.99)


def summarise(shared: Path) -> dict[str, Any]:
    """Return the quantiles of each stage, in ms as published."""
    by_stage: dict[str, list[float]] = {}
    for row in read(GENAI_STAGES, shared):
        by_stage.setdefault(row["stage"], []).append(float(row["value"]))
    return {
        "note": "scaled by the publisher: compare within a stage only; no rates can be taken",
        "quantiles": list(QUANTILES),
        "stages": {
            stage: {
                "rows": len(values),
                "ms": [round(float(q)) for q in np.quantile(values, QUANTILES)],
            }
            for stage, values in sorted(by_stage.items())
        },
        "sources": [GENAI_STAGES.file],
    }
