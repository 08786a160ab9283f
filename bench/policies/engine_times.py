"""How long an engine takes, as NVIDIA's planner reckons it from what the engine says of itself.

After ai-dynamo/dynamo, components/src/dynamo/planner/core/perf_model/agg.py: the time of an
iteration is linear in what is in it, the first token comes when the prompts ahead are done, chunk
by chunk, and a token each iteration. The planner fits that line; here it is the fleet's law.
"""

from typing import NamedTuple

from bench.full import Full
from bench.policies.autoscaler import Engine, Sample
from libs.common.messages import ITERATION_SHARE, BatchLaw, ModelSpec, StepLaw


class Held(NamedTuple):
    """What an engine holds."""

    running: float
    kv_tokens: float
    queued: float  # prompt tokens not computed; of a batch model: requests that wait

    def times(self, factor: float) -> "Held":
        """Return what each engine would hold if there were `factor` times fewer."""
        return Held(*(factor * amount for amount in self))

    def alone(self) -> "Held":
        """Return the same without the queue."""
        return self._replace(queued=0.0)


class EngineTimes:
    """The estimates for one model. A batch model has no tokens: its times per token are 0."""

    def __init__(self, spec: ModelSpec, full: Full) -> None:
        self._spec, self._full = spec, full
        self._law: StepLaw | BatchLaw = next(iter(spec.law.values()))
        self._prompt_tokens = self._prompt_tokens_each = 0.0  # of a request; in an iteration

    def see(self, sample: Sample) -> None:
        """Learn the mean prompt, and how much of prompts an iteration computes in the mean."""
        self._prompt_tokens = sample.prompt_tokens / max(1, sample.ended)
        self._prompt_tokens_each = sample.prompt_tokens / max(1, sample.iterations)

    def held(self, engine: Engine) -> Held:
        """Return what an engine that was scraped holds."""
        if isinstance(self._law, BatchLaw):
            return Held(engine.running, 0.0, engine.waiting)
        kv_tokens = engine.kv_share * self._spec.kv_tokens
        return Held(engine.running, kv_tokens, engine.prefill_tokens)

    def fill(self, engine: Engine) -> float:
        """Return how full its KV cache is, with the prompts that wait; of a batch model, itself.

        A batch model is full when it holds what it holds at its highest rate.
        """
        held = self.held(engine)
        if isinstance(self._law, BatchLaw):
            return (held.running + held.queued) / self._full.held_at(1.0)
        return (held.kv_tokens + held.queued) / self._spec.kv_tokens

    def fits(self, held: Held) -> bool:
        """Whether the KV cache has room for what is held and for what waits."""
        return not self._spec.kv_tokens or held.kv_tokens + held.queued < self._spec.kv_tokens

    def rate_rps(self, share: float) -> float:
        """Return the rate at which an engine keeps this share of its objective."""
        full, objective = self._full, self._spec.objective
        if isinstance(self._law, StepLaw):
            part = 1 - self._law.base_ms / (share * objective.tpot_ms)
            rate_rps = 1000 * part / full.beta_ms if full.beta_ms else full.rate_rps
        else:
            batch = (share * objective.latency_ms / 2 - full.alpha_ms) // full.beta_ms
            rate_rps = 1000 * batch / (full.alpha_ms + batch * full.beta_ms)
        return min(full.rate_rps, max(rate_rps, 1000 / (full.alpha_ms + full.beta_ms)))

    def first_ms(self, held: Held) -> float:
        """Return the time to first token of one more request; of a batch model, its latency."""
        if isinstance(self._law, BatchLaw):
            requests = held.running + held.queued + 1
            batches = -(-requests // self._full.batch)
            return batches * self._full.alpha_ms + requests * self._full.beta_ms
        decode_ms = self._decode_ms(held)
        tokens = held.queued + self._prompt_tokens
        # An iteration may last so long: what decoding leaves of it is the chunk.
        limit_ms = ITERATION_SHARE * self._spec.objective.tpot_ms
        chunk = max(1.0, (limit_ms - decode_ms) / self._law.prefill_token_ms)
        return -(-tokens // chunk) * decode_ms + tokens * self._law.prefill_token_ms

    def token_ms(self, held: Held) -> float:
        """Return the time of a token beside a mean share of prompts."""
        if isinstance(self._law, BatchLaw):
            return 0.0
        return self._decode_ms(held) + self._prompt_tokens_each * self._law.prefill_token_ms

    def _decode_ms(self, held: Held) -> float:
        law = self._law
        assert isinstance(law, StepLaw)
        return law.base_ms + law.decode_seq_ms * held.running + law.kv_token_ms * held.kv_tokens
