"""How a room compiles its kernels: at their first use, and then kept on disk.

numba keys its cache by the file of the one function, so a change of a callee in another file would
leave stale machine code in use. Here the text of the whole room is the key: a change of any file
compiles all anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])

# Divisions follow IEEE, as in numpy. No fastmath: the same arguments give the same bytes.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": True}


class Room:
    """The kernels of one folder and those below it."""

    def __init__(self, folder: Path) -> None:
        texts = (path.read_bytes() for path in sorted(folder.rglob("*.py")))
        self._stamp = hashlib.sha256(b"".join(texts)).hexdigest()

    def kernel(self, function: F) -> F:
        """Compile a function that only kernels call, as a part of each of them."""
        options: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True}
        compiled: F = njit(**options)(function)
        return compiled

    def entry(self, function: F) -> F:
        """Compile a function that Python calls too, at its first call or from the cache on disk."""
        compiled: Any = njit(cache=True, **_OPTIONS)(function)
        if isinstance(compiled, Dispatcher):  # not where NUMBA_DISABLE_JIT leaves plain Python
            cast(Any, compiled)._cache._cache_file._source_stamp = self._stamp
        return cast(F, compiled)
