"""The kernels of this room: what `kernel` and `entry` promise stands in `libs/common/jit.py`.

State is arrays of records, one record a model, a pair or a node; kernels change them in place, and
a kernel of one row takes the record.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.common.jit import Room

Table = npt.NDArray[Any]  # records of one kind
Row = Any  # one of them

_ROOM = Room(Path(__file__).parent)
kernel, entry = _ROOM.kernel, _ROOM.entry


def record(fields: dict[str, Any]) -> np.dtype[np.void]:
    """Return the type of a record: a name and a type, or a type and a shape, for each field."""
    kinds = {name: kind if isinstance(kind, tuple) else (kind, ()) for name, kind in fields.items()}
    return np.dtype([(name, *kind) for name, kind in kinds.items()], align=True)
