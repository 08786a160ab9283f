"""The Gorilla coder as published: delta-of-delta timestamps, XOR of float64, bit by bit.

Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015, sections
4.1.1 and 4.1.2. Each series has a state of its own; a tick appends one point to every series, and
the bits of a tick are what is sent. It is a yardstick: nothing but `bench.wire` uses it.
"""

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

POINT_BYTES_MAX = 15  # 4 + 32 bits of time, 2 + 5 + 6 + 64 of the value
# Of a series' state, by column: time, its last difference, the value's bits, and the window of
# meaningful bits: leading zeros and length (0: none yet).
TIME, STEP, VALUE, LEADING, LENGTH = range(5)
# By the prefix's length: bits of a difference of differences, and the least that they hold.
STEPS = ((2, 0b10, 7, -63), (3, 0b110, 9, -255), (4, 0b1110, 12, -2047))

njit = numba.njit(cache=True)


def begin(count: int, at_ms: int) -> Ints:
    """Return the state of `count` series before their first point, (series, 5)."""
    state = np.zeros((count, 5), np.int64)
    state[:, TIME] = at_ms
    return state


@njit
def _put(out: Bytes, at: int, bits: int, count: int) -> int:
    for place in range(count - 1, -1, -1):
        if (bits >> place) & 1:
            out[at >> 3] |= np.uint8(0x80 >> (at & 7))
        at += 1
    return at


@njit
def _get(data: Bytes, at: int, count: int) -> np.int64:
    bits = np.int64(0)
    for place in range(at, at + count):
        bits = (bits << 1) | ((data[place >> 3] >> (7 - (place & 7))) & 1)
    return bits


@njit
def _zeros(bits: int) -> tuple[int, int]:
    """Return the leading and trailing zeros of 64 bits that are not all zero."""
    leading = 0
    while (bits >> (63 - leading)) & 1 == 0:
        leading += 1
    trailing = 0
    while (bits >> trailing) & 1 == 0:
        trailing += 1
    return leading, trailing


@njit
def write_tick(state: Ints, at_ms: int, values: Ints, out: Bytes) -> int:
    """Append a point to every series; `values` are float64 seen as int64, `out` is all zero.

    Returns:
        How many bytes of `out` it took.
    """
    at = 0
    for i in range(len(values)):
        step = at_ms - state[i, TIME]
        change = step - state[i, STEP]
        if change == 0:
            at = _put(out, at, 0, 1)
        else:
            written = False
            for prefix_bits, prefix, bits, least in STEPS:
                if not written and least <= change <= least + (1 << bits) - 1:
                    at = _put(out, at, prefix, prefix_bits)
                    at = _put(out, at, change - least, bits)
                    written = True
            if not written:
                at = _put(out, at, 0b1111, 4)
                at = _put(out, at, change, 32)
        state[i, TIME], state[i, STEP] = at_ms, step
        differing = values[i] ^ state[i, VALUE]
        state[i, VALUE] = values[i]
        if differing == 0:
            at = _put(out, at, 0, 1)
            continue
        leading, trailing = _zeros(differing)
        leading = min(leading, 31)
        window = state[i, LENGTH]
        after = 64 - state[i, LEADING] - window
        if window > 0 and leading >= state[i, LEADING] and trailing >= after:
            at = _put(out, at, 0b10, 2)
            at = _put(out, at, differing >> after, window)
            continue
        length = 64 - leading - trailing
        at = _put(out, at, 0b11, 2)
        at = _put(out, at, leading, 5)
        at = _put(out, at, length & 63, 6)  # 64 is written as 0
        at = _put(out, at, differing >> trailing, length)
        state[i, LEADING], state[i, LENGTH] = leading, length
    return (at + 7) >> 3


@njit
def read_tick(state: Ints, data: Bytes, values: Ints) -> None:
    """Read a point of every series from what `write_tick` wrote; the time is left in `state`."""
    at = 0
    for i in range(len(values)):
        change = np.int64(0)
        if _get(data, at, 1) == 0:
            at += 1
        else:
            written = False
            for prefix_bits, prefix, bits, least in STEPS:
                if not written and _get(data, at, prefix_bits) == prefix:
                    change = _get(data, at + prefix_bits, bits) + least
                    at += prefix_bits + bits
                    written = True
            if not written:
                change = (_get(data, at + 4, 32) << 32) >> 32  # with its sign
                at += 36
        state[i, STEP] += change
        state[i, TIME] += state[i, STEP]
        if _get(data, at, 1) == 0:
            at += 1
        else:
            fresh = _get(data, at + 1, 1)
            at += 2
            if fresh:
                state[i, LEADING] = _get(data, at, 5)
                length = _get(data, at + 5, 6)
                state[i, LENGTH] = 64 if length == 0 else length
                at += 11
            window = state[i, LENGTH]
            differing = _get(data, at, window) << (64 - state[i, LEADING] - window)
            state[i, VALUE] ^= differing
            at += window
        values[i] = state[i, VALUE]
