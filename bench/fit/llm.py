"""Step laws of LLMs: an iteration takes base + prefill + decodes + KV reads.

Two kinds of measurement. Splitwise timed prefill and decode apart: all four coefficients come from
it. LLM-Inference-Bench timed whole batches from end to end, prompt as long as answer: there a
prompt token and a decode cannot be told apart, so the cost of a prompt token is taken from Vidur's
layer times, and the other three are fitted.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.fit.least_squares import (
    Floats,
    Measured,
    error_report,
    errors_left_out,
    fit,
    percent,
    significant,
)
from bench.fit.profiles import INFERENCE_BENCH, SPLITWISE, VIDUR, Row, Source, medians, read

# The engine prefills in chunks. A measured prefill of more tokens went through in one pass, which
# takes longer a token from 4,096 tokens on; it is compared with the chunks that do the same.
CHUNK_TOKENS = 1024
BYTES = 2  # 16-bit weights and KV cache


class Architecture(NamedTuple):
    """What a published configuration says."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    ffn_matrices: int = 3  # gate, up, down; 2 without a gate
    embeddings: int = 2  # 1: input and output share one

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer."""
        kv = self.kv_heads * self.hidden // self.heads
        return self.hidden * (2 * self.hidden + 2 * kv + self.ffn_matrices * self.ffn)

    @property
    def weights_bytes(self) -> int:
        """All weights, norms and biases left out (below 0.1 %)."""
        outer = self.embeddings * self.vocabulary * self.hidden
        return BYTES * (self.layers * self.layer_parameters + outer)

    @property
    def kv_bytes_per_token(self) -> int:
        """Key and value of every layer."""
        return 2 * self.layers * self.kv_heads * (self.hidden // self.heads) * BYTES


ARCHITECTURES = {
    "llama-2-7b": Architecture(32, 4096, 32, 32, 11008, 32_000),
    "llama-2-70b": Architecture(80, 8192, 64, 8, 28672, 32_000),
    "llama-3-8b": Architecture(32, 4096, 32, 8, 14336, 128_256),
    "llama-3-70b": Architecture(80, 8192, 64, 8, 28672, 128_256),
    "qwen2-7b": Architecture(28, 3584, 28, 4, 18944, 152_064),
    "qwen2-72b": Architecture(80, 8192, 64, 8, 29568, 152_064),
    "bloom-176b": Architecture(70, 14336, 112, 112, 57344, 250_880, 2, 1),
}


class Splitwise(NamedTuple):
    """A set-up of the Splitwise table."""

    model: str
    device_type: str
    gpus: int
    their_model: str


class EndToEnd(NamedTuple):
    """A set-up of LLM-Inference-Bench (vLLM), and Vidur's layers that give its prompt tokens."""

    model: str
    device_type: str
    gpus: int
    their_model: str
    layers_of: str  # a model of the same shape, or scaled by the parameters of a layer
    vidur_model: str


SPLITWISE_SETUPS = (
    Splitwise("llama-2-70b", "h100", 8, "llama2-70b"),
    Splitwise("llama-2-70b", "a100", 8, "llama2-70b"),
    Splitwise("llama-2-70b", "h100", 4, "llama2-70b"),
    Splitwise("llama-2-70b", "a100", 4, "llama2-70b"),
    Splitwise("bloom-176b", "h100", 8, "bloom-176b"),
    Splitwise("bloom-176b", "a100", 8, "bloom-176b"),
)
LLAMA_3_8B = "meta-llama/Meta-Llama-3-8B"
LLAMA_2_7B = "meta-llama/Llama-2-7b-hf"
LLAMA_2_70B = "meta-llama/Llama-2-70b-hf"
END_TO_END_SETUPS = (
    EndToEnd("llama-3-8b", "h100", 1, LLAMA_3_8B, "llama-2-7b", LLAMA_2_7B),
    EndToEnd("llama-3-8b", "a100", 1, LLAMA_3_8B, "llama-3-8b", LLAMA_3_8B),
    EndToEnd("llama-2-7b", "h100", 1, LLAMA_2_7B, "llama-2-7b", LLAMA_2_7B),
    EndToEnd("qwen2-7b", "h100", 1, "Qwen/Qwen2-7B", "llama-2-7b", LLAMA_2_7B),
    EndToEnd("llama-3-70b", "h100", 4, "meta-llama/Meta-Llama-3-70B", "llama-2-70b", LLAMA_2_70B),
    EndToEnd("qwen2-72b", "h100", 4, "Qwen/Qwen2-72B", "qwen2-72b", "Qwen/Qwen-72B"),
)


def fit_all(shared: Path) -> list[dict[str, Any]]:
    """Fit every set-up; one entry of `laws.yaml` each."""
    splitwise, bench, vidur = (read(s, shared) for s in (SPLITWISE, INFERENCE_BENCH, VIDUR))
    fitted = [_fit_splitwise(setup, splitwise) for setup in SPLITWISE_SETUPS]
    return fitted + [_fit_end_to_end(setup, bench, vidur) for setup in END_TO_END_SETUPS]


def layer_ms(rows: list[Row], device: str, model: str, gpus: int) -> dict[int, float]:
    """Time of one layer without its attention against the tokens in a pass, from Vidur."""
    return dict(
        sorted(
            medians(
                (int(row["num_tokens"]), _sum_ms(row))
                for row in rows
                if row["device"] == device
                and row["model"] == model
                and row["num_tensor_parallel_workers"] == str(gpus)
            ).items()
        )
    )


def _sum_ms(row: Row) -> float:
    # The residual is added twice in a layer, and stands there once.
    names = [name for name in row if name.endswith("_ms") and name != "emb_ms"]
    return sum(float(row[name] or 0) * (2 if name == "add_ms" else 1) for name in names)


def _fit_splitwise(setup: Splitwise, rows: list[Row]) -> dict[str, Any]:
    own = [
        row
        for row in rows
        if row["model"] == setup.their_model
        and row["hardware"] == f"{setup.device_type}-80gb"
        and row["tensor_parallel"] == str(setup.gpus)
    ]

    def timed(column: str, *key: str) -> dict[tuple[int, ...], float]:
        return medians((tuple(int(row[k]) for k in key), float(row[column])) for row in own)

    prefills = timed("prompt_time", "prompt_size", "batch_size")
    steps = timed("token_time", "prompt_size", "batch_size", "token_size")
    terms: list[list[float]] = [[-(-p * b // CHUNK_TOKENS), p * b, 0, 0] for p, b in prefills]
    terms += [[1, 0, b, b * (p + output / 2)] for p, b, output in steps]
    measured = Measured(
        np.array(terms, float),
        np.array([*prefills.values(), *steps.values()]),
        np.array([b for _, b, *_ in (*prefills, *steps)]),
    )
    left_out = errors_left_out(measured)
    known, prefill = ~np.isnan(left_out), np.arange(len(terms)) < len(prefills)
    x = fit(measured)
    error = error_report(measured, x)
    error["left_out_prefill"] = percent(left_out[known & prefill])
    error["left_out_decode"] = percent(left_out[known & ~prefill])
    method = (
        f"prefills as chunks of {CHUNK_TOKENS} tokens, and decode steps, in one non-negative "
        "least squares over relative errors"
    )
    return _entry(setup, x, [SPLITWISE], len(own), error, method)


def _fit_end_to_end(setup: EndToEnd, bench: list[Row], vidur: list[Row]) -> dict[str, Any]:
    own = [
        (int(row["Input Output Length"]), int(row["Batch Size"]), float(row["Latency"]) * 1e3)
        for row in bench
        if row["Hardware"] == f"Nvidia {setup.device_type.upper()} GPU"
        and row["Framework"] == "vLLM"
        and row["Model"] == setup.their_model
        and row["Num of Hardware"] == str(setup.gpus)
    ]
    token_ms = _prompt_token_ms(setup, vidur)
    length, batch, times = (np.array(column, float) for column in zip(*own, strict=True))
    decodes = length - 1
    passes = decodes + np.ceil(batch * length / CHUNK_TOKENS)
    reads = batch * decodes * (length + length / 2)  # decode j reads length + j tokens
    measured = Measured(
        np.stack([passes, batch * decodes, reads], axis=1),
        times,
        batch.astype(np.int64),
        known=token_ms * batch * length,
    )
    x = fit(measured)
    scaled = "" if setup.layers_of == setup.model else f", scaled from {setup.vidur_model}"
    method = (
        f"prefill_token_ms from Vidur's layer times (slope from 256 to 2,048 tokens{scaled}); the "
        "others by non-negative least squares over relative errors of whole batches, vLLM"
    )
    sources = [INFERENCE_BENCH, VIDUR]
    whole = np.insert(x, 1, token_ms)
    return _entry(setup, whole, sources, len(own), error_report(measured, x), method)


def _prompt_token_ms(setup: EndToEnd, vidur: list[Row]) -> float:
    layers = layer_ms(vidur, setup.device_type, setup.vidur_model, setup.gpus)
    tokens = np.array([t for t in layers if 256 <= t <= 2048], float)
    times = np.array([layers[int(t)] for t in tokens])
    terms = np.stack([np.ones_like(tokens), tokens], axis=1)
    slope = fit(Measured(terms, times, tokens.astype(np.int64)))[1]
    ours, theirs = ARCHITECTURES[setup.model], ARCHITECTURES[setup.layers_of]
    return float(slope * ours.layers * ours.layer_parameters / theirs.layer_parameters)


def _entry(
    setup: Splitwise | EndToEnd,
    x: Floats,
    sources: list[Source],
    rows: int,
    error: dict[str, object],
    method: str,
) -> dict[str, Any]:
    architecture = ARCHITECTURES[setup.model]
    names = ("base_ms", "prefill_token_ms", "decode_seq_ms", "kv_token_ms")
    return {
        "model": setup.model,
        "device_type": setup.device_type,
        "gpus": setup.gpus,
        "law": dict(zip(names, map(significant, x), strict=True)),
        "weights_bytes": architecture.weights_bytes,
        "kv_bytes_per_token": architecture.kv_bytes_per_token,
        "rows": rows,
        "median_error_percent": error,
        "method": method,
        "sources": [source.file for source in sources],
    }
