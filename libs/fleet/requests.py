"""Requests on their way into a fleet: a structure of arrays."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Requests(NamedTuple):
    """Requests, in the order of their arrival. Of `output_tokens` only the engine may know."""

    due_ms: Floats  # ascending
    model: Ints  # index
    prompt_tokens: Ints
    output_tokens: Ints
    max_tokens: Ints  # all that is known of an answer's length before its end; 0: nothing
    # Of LLMs, the blocks that each prompt begins with: those of prompt i are
    # blocks[block_offsets[i] : block_offsets[i + 1]], each a number for `block_tokens` tokens and
    # all before them.
    block_offsets: Ints | None
    blocks: Ints | None
    block_tokens: int

    @classmethod
    def of(
        cls,
        due_ms: npt.ArrayLike,
        model: npt.ArrayLike,
        prompt_tokens: npt.ArrayLike | None = None,
        output_tokens: npt.ArrayLike | None = None,
        max_tokens: npt.ArrayLike | None = None,
        block_offsets: npt.ArrayLike | None = None,
        blocks: npt.ArrayLike | None = None,
        block_tokens: int = 512,
    ) -> Self:
        """Check and convert.

        Raises:
            ValueError: times are not finite or descend, lengths differ or are negative.
        """
        due = np.ascontiguousarray(due_ms, np.float64)
        if not np.isfinite(due).all() or (np.diff(due) < 0).any():
            raise ValueError("due_ms: times must be finite and ascend")
        n = len(due)
        of_model = _whole("model", model, n)
        prompt = _whole("prompt_tokens", prompt_tokens, n)
        output = _whole("output_tokens", output_tokens, n)
        most = _whole("max_tokens", max_tokens, n)
        if blocks is None or block_offsets is None:
            return cls(due, of_model, prompt, output, most, None, None, block_tokens)
        offsets = _whole("block_offsets", block_offsets, n + 1)
        numbers = np.ascontiguousarray(blocks, np.int64)
        if offsets[0] or offsets[-1] != len(numbers) or (np.diff(offsets) < 0).any():
            raise ValueError("block_offsets: must ascend from 0 to the number of blocks")
        return cls(due, of_model, prompt, output, most, offsets, numbers, block_tokens)

    def fill(self, table: npt.NDArray[np.void], first_block: int, start_ms: float) -> None:
        """Write these into rows of `tables.REQUEST`."""
        table["due_ms"] = self.due_ms - start_ms
        table["first_ms"] = table["ended_ms"] = -1.0
        table["replica"] = table["next"] = -1
        for name in ("model", "prompt_tokens", "output_tokens", "max_tokens"):
            table[name] = getattr(self, name)
        if self.block_offsets is not None:
            table["block_start"] = first_block + self.block_offsets[:-1]
            # Of a block that the prompt fills only in part, nothing can be used again.
            whole = self.prompt_tokens // self.block_tokens
            table["n_blocks"] = np.minimum(np.diff(self.block_offsets), whole)


def _whole(name: str, column: npt.ArrayLike | None, n: int) -> Ints:
    if column is None:
        return np.zeros(n, np.int64)
    numbers = np.ascontiguousarray(column, np.int64)
    if numbers.shape != (n,):
        raise ValueError(f"{name}: {numbers.shape} values for {n} requests")
    if (numbers < 0).any():
        raise ValueError(f"{name}: {numbers.min()} is negative")
    return numbers
