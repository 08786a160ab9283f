"""The oracle's charge of a load: each request's part of the bound in `docs/oracle.md`."""

import numpy as np
import numpy.typing as npt

from bench.load import Load
from bench.oracle import batch_bound, burstiness, llm_bound, llm_work
from bench.outcome import batch_type, llm_type
from bench.scenario import Scenario
from libs.common.messages import BatchLaw
from services.load.core.arrivals import select

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KINDS = ((2.0, "smooth"), (4.0, "bursty"))


def oracle_gpu_s(scenario: Scenario, load: Load, begin_s: float | None = None) -> dict[str, Floats]:
    """Return by model what the bound charges each of its requests that is due from `begin_s` on.

    Without it, from the end of the warm-up on. Requests before it have part 0: the bound is that of
    the others alone. LLMs' iterations may last as long as the objective, though the modelled engine
    keeps to 0.95 of it.
    """
    begin_ms = 1000 * (scenario.warmup_s if begin_s is None else begin_s)
    types = {node.device_type for node in scenario.fleet.nodes}
    found = {}
    for spec in scenario.models:
        arrivals = load.arrivals[spec.name]
        inside = arrivals.at_ms >= begin_ms
        judged = select(arrivals, inside)
        laws = [law for name, law in sorted(spec.law.items()) if name in types]
        parts = np.zeros(len(inside))
        if len(judged.at_ms):
            if spec.kind == "batch":
                bound = batch_bound(
                    judged.at_ms,
                    [batch_type(spec, law) for law in laws if isinstance(law, BatchLaw)],
                    spec.objective.latency_ms,
                    spec.gpus,
                )
            else:
                work = llm_work(arrivals)
                judged_work = type(work)(*(part[inside] for part in work))
                bound = llm_bound(
                    judged_work,
                    [llm_type(law) for law in laws],
                    spec.objective.tpot_ms,
                    spec.gpus,
                )
            parts[inside] = bound.request_gpu_s
        found[spec.name] = parts
    return found


def in_due_order(load: Load, by_model: dict[str, Floats]) -> Floats:
    """Return the parts in the order of `Load.requests`."""
    at_ms = np.concatenate([part.at_ms for part in load.arrivals.values()])
    parts: Floats = np.concatenate([by_model[model] for model in load.arrivals])
    return parts[np.argsort(at_ms, kind="stable")]


def burst_of(scenario: Scenario, load: Load) -> float:
    """Return the largest 10 s mean of the oracle's work / its mean, in the window."""
    parts = in_due_order(load, oracle_gpu_s(scenario, load))
    at_ms = np.sort(np.concatenate([part.at_ms for part in load.arrivals.values()]))
    return burstiness(at_ms, parts, 1000 * scenario.warmup_s, 1000 * load.duration_s)


def kind_of(ratio: float) -> str:
    """Return the kind of a load by that ratio."""
    return next((kind for limit, kind in KINDS if ratio < limit), "very bursty")
