"""What the core and its router believe of the models where that is wrong; the fleet runs the truth.

A law of time or of memory that was measured elsewhere is off by some percent. Here every figure of
a model's spec is off by one factor, so that a believed time is (1 + law) x the true one. What is
measured in the run is true: batches' times, from which the predictor corrects their law, and the
memory that nodes report. Of an LLM's iterations nothing is learned, and the router corrects nothing
but theta.
"""

from typing import NamedTuple

from libs.common.messages import BatchLaw, ModelSpec, StepLaw


class Errors(NamedTuple):
    """How far off the specs are that the core is given: believed / true - 1."""

    law: float = 0.0  # of service times
    memory: float = 0.0  # of weights, activations, and what a request or a token takes
    learns: bool = True  # whether measured batches correct the law of time

    @property
    def name(self) -> str:
        """What reports call it: `law -15 %, unlearned`."""
        wrong = (("law", self.law), ("memory", self.memory))
        parts = [f"{what} {100 * by:+g} %" for what, by in wrong if by]
        if self.law and not self.learns:
            parts.append("unlearned")
        return ", ".join(parts) or "none"


NONE = Errors()


def believed(spec: ModelSpec, errors: Errors) -> ModelSpec:
    """Return what the core is told of a model; the objective, being a wish, is never wrong."""
    if errors.law == 0 and errors.memory == 0:
        return spec
    of_time, of_memory = 1 + errors.law, 1 + errors.memory
    return spec.model_copy(
        update={
            "law": {kind: _scaled(law, of_time) for kind, law in spec.law.items()},
            "weights_bytes": round(of_memory * spec.weights_bytes),
            "activation_bytes": round(of_memory * spec.activation_bytes),
            "request_bytes": round(of_memory * spec.request_bytes),
            "kv_bytes_per_token": round(of_memory * spec.kv_bytes_per_token),
        }
    )


def _scaled(law: BatchLaw | StepLaw, by: float) -> BatchLaw | StepLaw:
    return type(law)(**{name: by * value for name, value in law.model_dump().items()})
