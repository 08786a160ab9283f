"""Mean prompt and answer length of each model's recent requests."""

import math

from services.predictor.core.jit import Row, kernel

MEMORY_S = 30.0
# Sums over ended requests, the older ones counting less; zero at first.
FIELDS = {"ends": "f8", "prompt_tokens": "f8", "output_tokens": "f8"}


@kernel
def add(sums: Row, ends: float, prompt: float, output: float, elapsed_s: float) -> None:
    """Take in what ends, prompt and output tokens grew by; NaN in one passes all over."""
    kept = math.exp(-elapsed_s / MEMORY_S)
    if math.isnan(ends + prompt + output):
        ends = prompt = output = 0.0
    sums.ends = kept * sums.ends + ends
    sums.prompt_tokens = kept * sums.prompt_tokens + prompt
    sums.output_tokens = kept * sums.output_tokens + output


@kernel
def means(sums: Row) -> tuple[float, float]:
    """Return prompt and output tokens a request; NaN where none has ended."""
    # What has decayed to a thousandth of a request is the memory of one, and tells nothing.
    if sums.ends <= 1e-3:
        return math.nan, math.nan
    return sums.prompt_tokens / sums.ends, sums.output_tokens / sums.ends
