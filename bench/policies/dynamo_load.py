"""The fast loop of NVIDIA's planner: one replica more, one fewer, or none, by what engines hold.

After ai-dynamo/dynamo, components/src/dynamo/planner/core/load_scaling.py (engines that do prompts
and answers alike) and perf_model/agg.py: the time of an iteration is linear in what is in it, the
first token comes when the prompts ahead are done, chunk by chunk, and a token each iteration. The
planner fits that line; here it is the fleet's law. It knows no batch models: where it looks at
the KV cache, of those their rate counts, and where at the first token, their latency.
"""

from math import inf
from typing import NamedTuple

from bench.policies.autoscaler import Case, Sample
from libs.common.messages import ITERATION_SHARE, StepLaw

KV_SHARES = {"throughput": (1.0, 0.6), "latency": (0.4, 0.1)}  # one more above, one fewer below


class Held(NamedTuple):
    """What an engine holds."""

    used: float  # of the KV cache; of a batch model, of its highest rate: what came lately
    running: float
    queued: float  # prompt tokens not computed yet; of a batch model, requests that wait

    def times(self, factor: float) -> "Held":
        """Return what each engine would hold if there were `factor` times fewer."""
        return Held(*(factor * amount for amount in self))


class LoadLoop:
    """The fast loop for one model."""

    def __init__(self, case: Case, sla_share: float, sensitivity: float) -> None:
        objective = case.spec.objective
        self._spec, self._full, self._sensitivity = case.spec, case.full, sensitivity
        law = next(iter(case.spec.law.values()))
        self._law = law if isinstance(law, StepLaw) else None
        self._first_ms = sla_share * objective.latency_ms
        self._token_ms = sla_share * objective.tpot_ms if self._law else inf
        self._prompt_tokens = self._prompt_tokens_each = 0.0  # of a request; in an iteration
        self._held: list[Held] = []
        self._counted = (0.0, 0)

    def see(self, sample: Sample) -> None:
        """Take in what engines hold, and the means of what they were given."""
        since_ms, arrivals = self._counted
        self._counted = (sample.at_ms, sample.arrivals)
        rate_rps = 1000 * (sample.arrivals - arrivals) / (sample.at_ms - since_ms)
        self._prompt_tokens = sample.prompt_tokens / max(1, sample.ended)
        self._prompt_tokens_each = sample.prompt_tokens / max(1, sample.iterations)
        busy = rate_rps / self._full.rate_rps / max(1, sample.ready)
        self._held = [
            Held(engine.kv_share, engine.running, engine.prefill_tokens)
            if self._law
            else Held(busy, engine.running, engine.waiting)
            for engine in sample.engines
        ]

    def engine_rps(self) -> float:
        """Return the rate up to which one engine is in time, from the law at the mean lengths."""
        full = self._full
        if self._law is None:
            batch = (self._first_ms / 2 - full.alpha_ms) // full.beta_ms
            most_rps = 1000 * batch / (full.alpha_ms + batch * full.beta_ms)
        else:
            most_rps = 1000 * (1 - self._law.base_ms / self._token_ms) / max(full.beta_ms, 1e-9)
        # Where even one request is too slow, what one after the other gives.
        return min(full.rate_rps, max(most_rps, 1000 / (full.alpha_ms + full.beta_ms)))

    def by_fill(self, target: str) -> int:
        """Return 1 if any engine is too full, prompts that wait included; -1 if none is half so."""
        above, below = KV_SHARES[target]
        room = self._spec.kv_tokens if self._law else self._full.held_at(1.0)
        fills = [held.used + held.queued / room for held in self._held]
        if any(fill > above for fill in fills):
            return 1
        return -1 if len(fills) > 1 and all(fill < below for fill in fills) else 0

    def by_times(self) -> int:
        """Return 1 if all engines are too slow, -1 if with one fewer they would still be in time.

        Of a first token, what the queue adds may use its part of what the request itself leaves.
        """
        first = [self.first_ms(held) > self._first_ms for held in self._held]
        token = [self.token_ms(held) > self._token_ms for held in self._held]
        if all(first) or all(token):
            return 1
        if len(self._held) == 1:
            return 0
        factor = len(self._held) / (len(self._held) - 1)
        return -1 if all(self._in_time(held.times(factor)) for held in self._held) else 0

    def _in_time(self, held: Held) -> bool:
        own_ms = self.first_ms(held._replace(queued=0.0))
        queue_ms = self.first_ms(held) - own_ms
        if queue_ms >= (self._first_ms - own_ms) * self._sensitivity:
            return False
        if self._law is None:
            return held.used < self._sensitivity
        used = held.used + held.queued / self._spec.kv_tokens
        token_ms = self.token_ms(held._replace(used=used))
        return used < 1 and token_ms < self._token_ms * self._sensitivity

    def first_ms(self, held: Held) -> float:
        """Return the time to first token of one more request; of a batch model, its latency."""
        if self._law is None:
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
        """Return the time of an iteration, with as much of prompts in it as in the mean."""
        if self._law is None:
            return 0.0
        return self._decode_ms(held) + self._prompt_tokens_each * self._law.prefill_token_ms

    def _decode_ms(self, held: Held) -> float:
        assert self._law is not None
        kv_tokens = held.used * self._spec.kv_tokens
        return (
            self._law.base_ms
            + self._law.decode_seq_ms * held.running
            + self._law.kv_token_ms * kv_tokens
        )
