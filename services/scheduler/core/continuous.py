"""An LLM in the terms of the share loop: its engine as the law of a batch.

The loop plans with s(b) = alpha + beta x b. An engine with continuous batching has no batches, but
an equivalent law: while b answers are generated side by side, each takes O iterations, and by the
time they are done the engine has also prefilled b prompts. With the mean prompt P and answer O,

    alpha = O x base        beta = P x prefill + O x (decode + kv x (P + O / 2))

is the time of b answers, and b / s(b) the rate. The engine is full when an iteration lasts as long
as it may, which makes an answer last O times that, or when the KV cache holds all it can. The
rate is then (1 - base / T) / beta, the bound of `docs/oracle.md`. It is a mean and no more: which
request goes where, and whether its first token comes in time, the router's first fit decides
request by request, with the true state of every engine; so the loop grants and places, and the
router wakes.
"""

from typing import NamedTuple

from libs.common.messages import ITERATION_SHARE

# Until a first answer has ended: the means of the Azure chat trace of 2023
# (Azure/AzurePublicDataset).
PROMPT_TOKENS_GUESS = 1155.0
OUTPUT_TOKENS_GUESS = 211.0


class Engine(NamedTuple):
    """The law of an iteration."""

    base_ms: float
    prefill_token_ms: float
    decode_seq_ms: float
    kv_token_ms: float


class Equivalent(NamedTuple):
    """What the share loop plans with."""

    alpha_ms: float
    beta_ms: float
    answer_ms: float  # how long an answer takes where the engine is full


def equivalent(
    engine: Engine, prompt_tokens: float, output_tokens: float, tpot_ms: float, kv_tokens: float
) -> Equivalent:
    """Return the law of a batch that stands for an engine."""
    read = prompt_tokens + output_tokens / 2
    alpha_ms = output_tokens * engine.base_ms
    beta_ms = prompt_tokens * engine.prefill_token_ms + output_tokens * (
        engine.decode_seq_ms + engine.kv_token_ms * read
    )
    # At its end an answer holds its prompt and itself; with less than that, one is preempted.
    fitting = kv_tokens / (prompt_tokens + output_tokens)
    longest_ms = output_tokens * ITERATION_SHARE * tpot_ms
    return Equivalent(alpha_ms, beta_ms, min(longest_ms, alpha_ms + beta_ms * fitting))
