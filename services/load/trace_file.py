"""Opens trace files; what stands in them is read by `core/traces.py` and `core/servegen.py`."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from libs.common.errors import ContractError
from services.load.core import servegen
from services.load.core.arrivals import LONGEST_SHIFT_MS, Arrivals
from services.load.core.traces import EXPECTED, parse

GZIP_MAGIC = b"\x1f\x8b"


def read_trace(path: Path, duration_ms: float, model: str = "", seed: int = 0) -> Arrivals:
    """Read as much of a trace file, plain or gzipped, as copies of it need for `duration_ms`.

    What a file is shows in its content, whatever its name. Of a file with several models, those
    of `model` are read. From a ServeGen table of clients requests are drawn, the same for the same
    seed, with the lengths in the table beside it, `..._lengths...` for `..._clients...`.

    Raises:
        ContractError: the file cannot be opened, or not read as a trace; one line says why.
    """
    until_ms = duration_ms + LONGEST_SHIFT_MS
    try:
        with _opened(path) as lines:
            first = lines.readline()
            rows = chain([first] if first else [], lines)
            if first.lstrip("\ufeff").strip() != servegen.CLIENTS:
                return parse(rows, str(path), until_ms, model)
            rng = np.random.default_rng(seed)
            beside = path.with_name(path.name.replace("_clients", "_lengths"))
            if beside == path or not beside.exists():
                return servegen.draw(rows, None, str(path), until_ms, rng)
            with _opened(beside) as lengths:
                return servegen.draw(rows, lengths, str(path), until_ms, rng)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ContractError(f"{path}: {reason}; expected {EXPECTED}, plain or gzipped") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    with gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8") as text:
        yield text
