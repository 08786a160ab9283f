"""How the kernels of this room are compiled: at their first use, and then kept on disk.

numba keys its cache by the file of the one function, so a change of a callee in another file would
leave stale machine code in use. Here the text of the whole room is the key: a change of any file
compiles all anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

_TEXTS = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
_STAMP = hashlib.sha256(b"".join(_TEXTS)).hexdigest()


# Divisions follow IEEE, as in numpy. No fastmath: results are the same on each machine.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True}
_ENTRY: dict[str, Any] = {**_OPTIONS, "cache": True}


def kernel(function: F) -> F:
    """Compile a function that only kernels call, as a part of each of them."""
    compiled: F = njit(**_INNER)(function)
    return compiled


def entry(function: F) -> F:
    """Compile a function that Python calls too, at its first call or from the cache on disk."""
    compiled: Any = njit(**_ENTRY)(function)
    if compiled is not function:  # as it is where NUMBA_DISABLE_JIT leaves plain Python
        compiled._cache._cache_file._source_stamp = _STAMP
    return cast(F, compiled)
