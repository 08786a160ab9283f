"""How the kernels of this room are compiled: once, kept on disk, and as one unit.

numba keys its cache by the file of the one function, so a change in another file, of a callee or of
a record's fields, would leave stale machine code in use. `SOURCES` stands for the text of all
kernels; `tables.py` makes it a part of the type that every kernel takes, and a change of any file
compiles all anew.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

_TEXTS = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
SOURCES = hashlib.sha256(b"".join(text for text in _TEXTS if b"@kernel" in text)).hexdigest()[:12]


# Divisions follow IEEE, as in numpy. No fastmath: results are the same on each machine.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True}


def kernel(function: F) -> F:
    """Compile a function that only kernels call, at the first call or from the cache on disk."""
    compiled: F = njit(**_INNER)(function)
    return compiled


def entry(function: F) -> F:
    """Compile a function that Python calls too; as `kernel`."""
    compiled: F = njit(**_OPTIONS)(function)
    return compiled


def _pointer_of(_: Any, address: Any) -> Any:
    def codegen(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


# An address as a pointer, for `numba.carray`.
as_pointer = cast(Callable[[int], Any], intrinsic(_pointer_of))
