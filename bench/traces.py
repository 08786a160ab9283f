"""What a scenario's models are sent: the requests of a file, or drawn load where there is none.

Each model draws from a stream of its own, made of the seed and its name, so that a trace in place
of one model's load leaves those of the others as they were.
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from libs.common.errors import SettingError
from services.load.core.arrivals import LONGEST_SHIFT_MS, Arrivals, superpose
from services.load.core.synthetic import CLIENTS, OTHERS, generate
from services.load.trace_file import read_trace


class Drawn(NamedTuple):
    """Synthetic load by many bursty clients."""

    rate_rps: float  # in the mean
    like: str = ""  # whose clients: a name in `services/load/core/synthetic.py`


class Load(NamedTuple):
    """The requests of one model, and how long they cover a run."""

    arrivals: Arrivals
    ends_ms: float  # the run's duration, or the end of a shorter trace


def load_of(model: str, what: Path | Drawn, copies: int, duration_ms: float, seed: int) -> Load:
    """Return what `model` is sent in [0, `duration_ms`); the same seed gives the same.

    `copies` of a trace are laid over each other, each but the first begun up to 60 s into it, so
    the last 60 s of a trace are not covered by all of them and end no run.

    Raises:
        ContractError: the file cannot be read as a trace; one line says where and why.
    """
    rng = np.random.default_rng([seed, zlib.crc32(model.encode())])
    if isinstance(what, Drawn):
        clients = CLIENTS.get(what.like or model, OTHERS)
        return Load(generate(clients, what.rate_rps * copies, duration_ms, rng), duration_ms)
    trace = read_trace(what, duration_ms, model, seed)
    covered_ms = float(trace.at_ms[-1]) - (LONGEST_SHIFT_MS if copies > 1 else 0.0)
    return Load(superpose(trace, copies, duration_ms, rng), min(duration_ms, covered_ms))


def trace_option(text: str) -> tuple[str, Path]:
    """Read `model=FILE`. Raises SettingError."""
    model, equals, file = text.partition("=")
    if not (model and equals and file):
        raise SettingError(f"--trace {text}: expected model=FILE")
    return model, Path(file)
