"""Laws of batch models, s(b) = alpha + beta x b: measured where there is data, else illustrative.

Measured: a text encoder is one pass over its prompts, so Vidur's layer times give it. Production
image generation gives the shape of a law, but names no GPU. Of small vision models no table was
found.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.fit.least_squares import Floats, Measured, error_report, fit, significant
from bench.fit.llm import layer_ms
from bench.fit.profiles import GENAI_MIX, VIDUR, medians, read

DEVICE_TYPES = ("a40", "a100", "h100")
TOKENS_MAX = 4096  # of one pass; as far as all the models were measured


class Encoder(NamedTuple):
    """A text model that reads prompts of one length and writes nothing."""

    name: str
    what: str
    vidur_model: str
    layers: int
    tokens: int
    parameters: int  # of the layers


ENCODERS = (
    Encoder(
        "embed",
        "texts of 256 tokens to vectors by a model of 7 billion parameters",
        "meta-llama/Llama-2-7b-hf",
        32,
        256,
        6_476_005_376,
    ),
    Encoder(
        "rerank",
        "pairs of query and document, 512 tokens, scored by a model of 2.5 billion parameters",
        "microsoft/phi-2",
        32,
        512,
        2_516_582_400,
    ),
)


def fit_all(shared: Path) -> list[dict[str, Any]]:
    """One entry of `laws.yaml` each, the illustrative ones last."""
    vidur = read(VIDUR, shared)
    fitted = []
    for encoder in ENCODERS:
        for device_type in DEVICE_TYPES:
            layers = layer_ms(vidur, device_type, encoder.vidur_model, 1)
            sizes = list(range(1, TOKENS_MAX // encoder.tokens + 1))
            times = [encoder.layers * layers[b * encoder.tokens] for b in sizes]
            entry = _fit(encoder.name, encoder.what, np.array(sizes), np.array(times))
            entry["device_type"] = device_type
            entry["weights_bytes"] = 2 * encoder.parameters
            entry["basis"] = (
                "measured, without attention (below 5 % of the arithmetic at this length)"
            )
            entry["method"] = (
                f"{encoder.layers} layers of {encoder.vidur_model} over b x {encoder.tokens} "
                "tokens, non-negative least squares over relative errors"
            )
            entry["sources"] = [VIDUR.file]
            fitted.append(entry)
    return [*fitted, _image_generation(shared), _vision()]


def _fit(model: str, what: str, sizes: Floats, times_ms: Floats) -> dict[str, Any]:
    terms = np.stack([np.ones(len(sizes)), sizes], axis=1)
    measured = Measured(terms, times_ms, sizes.astype(np.int64))
    x = fit(measured)
    return {
        "model": model,
        "what": what,
        "law": {"alpha_ms": significant(x[0]), "beta_ms": significant(x[1])},
        "batch_max": int(sizes[-1]),
        "rows": len(sizes),
        "median_error_percent": error_report(measured, x),
    }


def _image_generation(shared: Path) -> dict[str, Any]:
    rows = [
        row
        for row in read(GENAI_MIX, shared)
        if row["num_images_per_prompt"] and row["num_inference_steps"] == "30.0"
    ]
    times = medians(
        (float(row["num_images_per_prompt"]), float(row["exec_time_seconds"]) * 1e3)
        for row in rows
        if row["num_images_per_prompt"] in ("1.0", "2.0", "4.0", "8.0")
    )
    sizes = np.array(sorted(times))
    entry = _fit(
        "image",
        "one prompt, b images of 30 denoising steps each (Stable Diffusion with LoRA)",
        sizes,
        np.array([times[b] for b in sizes]),
    )
    entry["rows"] = len(rows)
    entry["device_type"] = "unnamed"
    entry["basis"] = (
        "measured in production, on GPUs that are not named; whole requests in whole seconds, "
        "switches of model and LoRA included; which device type it stands for is illustrative"
    )
    entry["method"] = "medians by number of images, non-negative least squares over relative errors"
    entry["sources"] = [GENAI_MIX.file]
    return entry


def _vision() -> dict[str, Any]:
    return {
        "model": "vision",
        "what": "an image model of some 300 million parameters",
        "law": {"alpha_ms": 20.0, "beta_ms": 12.0},
        "batch_max": 32,
        "device_type": "h100",
        "weights_bytes": 1_200_000_000,
        "basis": "illustrative: no openly licensed table of small vision models was found",
        "method": "none",
        "sources": [],
    }
