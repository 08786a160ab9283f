"""Opens trace files; what stands in them is read by `core/traces.py`."""

import gzip
from pathlib import Path

from libs.common.errors import ContractError
from services.load.core.arrivals import LONGEST_SHIFT_MS, Arrivals
from services.load.core.traces import COLUMNS, parse


def read_trace(path: Path, duration_ms: float) -> Arrivals:
    """Read as much of a trace file, plain or .gz, as copies of it need for `duration_ms`.

    Raises:
        ContractError: the file cannot be opened, or not read as a trace; one line says why.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            return parse(lines, str(path), duration_ms + LONGEST_SHIFT_MS)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ContractError(
            f"{path}: {reason}; expected a CSV with the columns {','.join(COLUMNS)}, "
            "plain or as .gz"
        ) from error
