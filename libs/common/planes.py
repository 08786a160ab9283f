"""Integers of a tick to bytes and back: differences, zigzag, byte planes. No I/O, no compression.

A block is one byte of head, a presence bitmap if anything is missing, and the planes. The head is
the number of planes, plus `SPARSE` where a bitmap follows. Plane 0 holds the lowest byte of each
difference that is present, plane 1 the next one, and so on: neighbours in a plane are alike, which
is what a byte compressor needs. The largest difference says how many planes there are.

Differences wrap around at 64 bits on both sides, so none can overflow.
"""

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

SPARSE = 0x80
PLANES_MAX = 8  # of 64 bits
INTEGER_MAX = 2.0**53  # beyond it a float64 no longer holds every integer
WRONG_LENGTH, INFINITE = -1, -2  # from `read_block`

CHUNK = 1024  # series read at a time: their zigzags stay in the fastest cache

# Divisions follow IEEE: a test for zero in a loop would keep it from taking many values at once.
njit = numba.njit(cache=True, nogil=True, error_model="numpy")


def block_bytes_max(count: int) -> int:
    """Return the largest size of a block of `count` series."""
    return 1 + (count + 7) // 8 + PLANES_MAX * count


def fractions(resolution: Floats) -> tuple[Floats, Floats]:
    """Return `unit` and `parts`, (series,): a resolution is unit / parts, and one of them is 1.

    A decimal resolution such as 0.01 is no float64, but a division by 100 is rounded only once: a
    value that stands on the grid, 0.07, comes back as that same float64. Unit 0: no resolution.
    """
    fine = (resolution > 0) & (resolution < 1)
    inverse = np.divide(1, resolution, out=np.ones_like(resolution), where=fine)
    parts = np.rint(inverse)
    decimal = fine & (np.abs(inverse - parts) < 1e-9 * inverse)
    return np.where(decimal, 1.0, resolution), np.where(decimal, parts, 1.0)


@njit
def integer_of(value: float, unit: float, parts: float) -> np.int64:
    """Return value / resolution, rounded; without a resolution, the value's own 64 bits."""
    if unit == 0.0:
        return np.float64(value).view(np.int64)
    return np.int64(np.rint(value / unit * parts))


@njit
def write_block(
    values: Floats,
    unit: Floats,
    parts: Floats,
    before: Ints,
    now: Ints,
    zigzags: npt.NDArray[np.uint64],
    out: Bytes,
) -> tuple[int, int]:
    """Write the differences of `values` to `before` as a block, and their integers into `now`.

    All are (series,) but `out`, of `block_bytes_max`; `zigzags` is scratch. A resolution is
    unit / parts, one of them 1. A NaN is missing: its integer stays what it was.

    Returns:
        The block's length and 0; or -1 and the first series that cannot be sent: it is infinite,
        or more than `INTEGER_MAX` steps of its resolution from zero.
    """
    count = len(values)
    present = 0
    every_bit = np.uint64(0)
    for i in range(count):
        value = values[i]
        if np.isnan(value):
            now[i] = before[i]
            continue
        size = abs(value) if unit[i] == 0.0 else abs(value / unit[i] * parts[i])
        if size > INTEGER_MAX and (unit[i] != 0.0 or np.isinf(value)):
            return -1, i
        integer = integer_of(value, unit[i], parts[i])
        now[i] = integer
        change = integer - before[i]
        zigzag = np.uint64((change << 1) ^ (change >> 63))
        every_bit |= zigzag
        zigzags[present] = zigzag
        present += 1
    out[0] = 0
    at = 1
    if present < count:
        out[0] = SPARSE
        at += _write_presence(values, out[1:])
    for plane in range(PLANES_MAX):
        shift = np.uint64(8 * plane)
        if every_bit >> shift == 0:
            break
        for i in range(present):
            out[at + i] = (zigzags[i] >> shift) & np.uint64(0xFF)
        at += present
        out[0] += 1
    return at, 0


@njit
def _write_presence(values: Floats, out: Bytes) -> int:
    size = (len(values) + 7) // 8
    out[:size] = 0
    for i in range(len(values)):
        if not np.isnan(values[i]):
            out[i >> 3] |= 1 << (i & 7)
    return size


@njit
def read_block(block: Bytes, unit: Floats, parts: Floats, integers: Ints, values: Floats) -> int:
    """Add a block's differences to `integers` and write the `values` that they stand for.

    Both are (series,). A missing one leaves its integer, and gives NaN.

    Returns:
        How many are present; or what is wrong with the block, `WRONG_LENGTH` or `INFINITE`. Then
        `integers` are of no more use.
    """
    count = len(integers)
    if len(block) == 0:
        return WRONG_LENGTH
    planes = block[0] & 0x7F
    sparse = block[0] & SPARSE != 0
    start = 1 + (count + 7) // 8 if sparse else 1
    if planes > PLANES_MAX or len(block) < start:
        return WRONG_LENGTH
    present = count
    if sparse:
        present = 0
        for i in range(count):
            present += (block[1 + (i >> 3)] >> (i & 7)) & 1
    if len(block) != start + planes * present:
        return WRONG_LENGTH
    if not sparse:
        finite = _read_dense(block[1:], planes, unit, parts, integers, values)
        return present if finite else INFINITE
    at = 0
    infinite = False
    for i in range(count):
        if not (block[1 + (i >> 3)] >> (i & 7)) & 1:
            values[i] = np.nan
            continue
        zigzag = np.uint64(0)
        for plane in range(planes):
            zigzag |= np.uint64(block[start + plane * present + at]) << np.uint64(8 * plane)
        at += 1
        integers[i] += np.int64(zigzag >> np.uint64(1)) ^ -np.int64(zigzag & np.uint64(1))
        if unit[i] == 0.0:
            values[i] = integers[i : i + 1].view(np.float64)[0]
        else:
            values[i] = integers[i] * unit[i] / parts[i]
        infinite |= np.isinf(values[i])
    return INFINITE if infinite else present


@njit
def _read_dense(
    block: Bytes, planes: int, unit: Floats, parts: Floats, integers: Ints, values: Floats
) -> bool:
    """Read planes of which none is missing, a loop a step; return whether all values are finite.

    Each loop does one thing to all series of a chunk, which the processor does to eight at a time.
    """
    count = len(integers)
    zigzags = np.empty(CHUNK, np.uint64)
    infinite = False
    for first in range(0, count, CHUNK):
        size = min(CHUNK, count - first)
        zigzags[:size] = 0
        for plane in range(planes):
            of_plane = block[plane * count + first : plane * count + first + size]
            shift = np.uint64(8 * plane)
            for i in range(size):
                zigzags[i] |= np.uint64(of_plane[i]) << shift
        whole, value = integers[first : first + size], values[first : first + size]
        units, divisors = unit[first : first + size], parts[first : first + size]
        raw = False
        for i in range(size):
            zigzag = zigzags[i]
            whole[i] += np.int64(zigzag >> np.uint64(1)) ^ -np.int64(zigzag & np.uint64(1))
            value[i] = whole[i] * units[i] / divisors[i]
            raw |= units[i] == 0.0
        if raw:
            for i in range(size):
                if units[i] == 0.0:
                    value[i] = whole[i : i + 1].view(np.float64)[0]
        for i in range(size):
            infinite |= abs(value[i]) == np.inf
    return not infinite
