"""How the kernels of this room are compiled: at the first call, or from the cache on disk.

numba keys its cache by the file of the one function, so a change in another file, of a callee or a
constant, would leave stale machine code in use. `SOURCES` stands for the text of all kernels; it is
made a part of each function's name, which the cache's file bears.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

_TEXTS = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
SOURCES = hashlib.sha256(b"".join(_TEXTS)).hexdigest()[:12]


def kernel(function: F) -> F:
    """Compile a function. Divisions follow IEEE; no fastmath: a replay gives the same bytes."""
    function.__qualname__ += f"_{SOURCES}"
    compiled: Any = njit(cache=True, error_model="numpy")(function)
    return cast(F, compiled)
