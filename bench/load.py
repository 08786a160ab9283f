"""The requests of a scenario: traces read, or drawn by the built-in generator, for one seed."""

import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.days import draw_days
from bench.scenario import LoadSpec, Scenario
from libs.common.errors import ContractError
from libs.fleet.requests import Requests
from services.load.core.arrivals import Arrivals, superpose
from services.load.core.synthetic import M_LARGE, M_SMALL, MM_IMAGE, Clients, generate
from services.load.trace_file import read_trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Many independent users: together they are a Poisson process.
POISSON = Clients(1, 0.0, 1.0, 1.000001)
BY_NAME = {"m_large": M_LARGE, "m_small": M_SMALL, "mm_image": MM_IMAGE, "poisson": POISSON}


class Load(NamedTuple):
    """What all models are sent, until `duration_s`."""

    arrivals: dict[str, Arrivals]  # by model, in the scenario's order
    duration_s: float  # the scenario's, or that of the shortest trace
    # By model, requests/s of the days before: a mean a minute, oldest first. Only of loads with
    # days.
    past_rps: Mapping[str, Floats] = MappingProxyType({})

    def requests(self) -> Requests:
        """Return all of them in due order, models by their index; ties keep the models' order."""
        parts = list(self.arrivals.values())
        counts = [len(part.at_ms) for part in parts]
        model = np.repeat(np.arange(len(parts)), counts)
        at_ms = np.concatenate([part.at_ms for part in parts])
        order = np.argsort(at_ms, kind="stable")
        blocks = _blocks(parts, order)
        return Requests.of(
            at_ms[order],
            model[order],
            np.concatenate([part.prompt_tokens for part in parts])[order],
            np.concatenate([part.output_tokens for part in parts])[order],
            None,
            *blocks,
        )

    def until(self, end_s: float) -> "Load":
        """Return what comes before `end_s`."""
        cut = {model: _until(part, 1000 * end_s) for model, part in self.arrivals.items()}
        return self._replace(arrivals=cut, duration_s=end_s)

    def labels(self) -> dict[str, str]:
        """Return by model what its load is; says "synthetic" where it was drawn."""
        return {
            model: f"{part.label} ({part.source.rpartition('/')[2]})" if part.source else part.label
            for model, part in self.arrivals.items()
        }


def load_of(scenario: Scenario, seed: int) -> Load:
    """Return the load of a scenario: the same for the same seed, file contents and scenario.

    The seed shifts the copies of a trace and moves what is drawn. A model's load does not depend
    on what the other models get. A trace that ends early ends the run.

    Raises:
        ContractError: a trace cannot be read, or is too short to be judged, in one line.
    """
    duration_ms = 1000 * scenario.duration_s
    raw, past, ends_ms = {}, {}, [duration_ms]
    for model, spec in scenario.load.items():
        # Not hash(), which differs from process to process.
        rng = np.random.default_rng([seed, zlib.crc32(model.encode())])
        if spec.trace is None:
            arrivals, past[model] = _drawn(spec, duration_ms, rng)
        else:
            whole = read_trace(spec.trace, duration_ms, model, seed)
            ends_ms.append(float(whole.at_ms[-1]))
            arrivals = superpose(whole, spec.copies, duration_ms, rng)
        raw[model] = arrivals
    end_ms = min(ends_ms)
    if end_ms <= 1000 * scenario.warmup_s:
        raise ContractError(
            f"{_shortest(scenario, ends_ms)}: it ends after {end_ms / 1000:g} s, within the "
            f"warmup_s of {scenario.warmup_s:g}: nothing would be judged"
        )
    cut = {model.name: _until(raw[model.name], end_ms) for model in scenario.models}
    _check_lengths(scenario, cut)
    return Load(cut, end_ms / 1000, past)


def _drawn(spec: LoadSpec, duration_ms: float, rng: np.random.Generator) -> tuple[Arrivals, Floats]:
    """Draw the arrivals, and what came before them."""
    assert spec.rate_rps is not None
    clients = BY_NAME[spec.clients]._replace(
        burst=spec.burst, prompt_tokens=spec.prompt_tokens, output_tokens=spec.output_tokens
    )
    rate_rps, label = spec.rate_rps * spec.copies, f"synthetic, {spec.clients} clients"
    if spec.days is None:
        drawn = generate(clients, rate_rps, duration_ms, rng)
        return drawn._replace(label=label), np.zeros(0)
    days = draw_days(spec.days, duration_ms, rng)
    past_rps = days.past_rps(clients, rate_rps, rng)
    drawn = generate(clients, rate_rps * days.mean(duration_ms), duration_ms, rng)
    at_ms = days.bend(drawn.at_ms, duration_ms)
    return drawn._replace(at_ms=at_ms, label=f"{label}, days of {spec.days.profile}"), past_rps


def _until(arrivals: Arrivals, end_ms: float) -> Arrivals:
    n = int(np.searchsorted(arrivals.at_ms, end_ms))
    prefixes = arrivals.prefixes
    if prefixes is not None:
        offsets = prefixes.offsets[: n + 1]
        prefixes = prefixes._replace(offsets=offsets, blocks=prefixes.blocks[: offsets[-1]])
    return arrivals._replace(
        at_ms=arrivals.at_ms[:n],
        prompt_tokens=arrivals.prompt_tokens[:n],
        output_tokens=arrivals.output_tokens[:n],
        prefixes=prefixes,
    )


def _shortest(scenario: Scenario, ends_ms: list[float]) -> str:
    traced = [str(spec.trace) for spec in scenario.load.values() if spec.trace is not None]
    return traced[int(np.argmin(ends_ms[1:]))] if traced else scenario.name


def _check_lengths(scenario: Scenario, arrivals: dict[str, Arrivals]) -> None:
    """Refuse a load that its model cannot take. Raises ContractError."""
    for model in scenario.models:
        part = arrivals[model.name]
        source = part.source or scenario.name
        if model.kind == "llm":
            if not part.output_tokens.any():
                raise ContractError(f"{source}: {model.name} is an LLM, and no request has tokens")
            longest = int((part.prompt_tokens + part.output_tokens).max())
            if longest > model.kv_tokens:
                raise ContractError(
                    f"{source}: a request to {model.name} has {longest} tokens, more than the "
                    f"kv_tokens {model.kv_tokens} of a replica"
                )


def _blocks(parts: list[Arrivals], order: Ints) -> tuple[Ints, Ints, int] | tuple[()]:
    """Return offsets and ids of the prompts' blocks in due order; () where no trace has any.

    Models share no prefix, so the ids of each are set apart.
    """
    if all(part.prefixes is None for part in parts):
        return ()
    counts, ids, first = [], [], 0
    size = 0
    for part in parts:
        if part.prefixes is None:
            counts.append(np.zeros(len(part.at_ms), np.int64))
            continue
        assert size in (0, part.prefixes.block_tokens), "traces with blocks of two sizes"
        size = part.prefixes.block_tokens
        counts.append(np.diff(part.prefixes.offsets))
        ids.append(part.prefixes.blocks + first)
        first += int(part.prefixes.blocks.max(initial=0)) + 1
    count, blocks = np.concatenate(counts), np.concatenate(ids)
    begins = np.concatenate([[0], np.cumsum(count)])[:-1]
    count, begins = count[order], begins[order]
    offsets = np.concatenate([[0], np.cumsum(count)])
    source = np.repeat(begins - offsets[:-1], count) + np.arange(offsets[-1])
    return offsets, blocks[source], size
