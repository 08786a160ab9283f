"""Ticks of samples: a row of values to a `pb.Tick` and back. Nothing is sent here.

A small tick carries float64 columns and stands alone. From `CODED_FROM` series on, a tick carries
integers, value / resolution, as differences to the tick before it (`planes.py`), compressed by
zstd, here and nowhere else. Every `KEY_EVERY`-th tick and the first of a run is a key: it differs
from zero, so a reader can begin with it. A reader that lacks the tick before a delta never guesses;
it waits for the next key, and counters make up for what was missed.

The kernels are imported when the first coder or chain is made: a collector of five series, or the
command line, does without.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import zstandard

from libs.common import plimsoll_pb2 as pb
from libs.common.errors import ContractError
from libs.common.messages import AppSamples
from libs.common.wire import layout_of

if TYPE_CHECKING:
    from libs.common.planes import Bytes, Floats, Ints

KEY_EVERY = 10  # ticks: a reader that joins a source of 100 ms waits a second at most
CODED_FROM = 16  # series; see docs/decisions/0013
HOLDS_MS_MAX = 2**32 - 1
RESOLUTION_MIN, RESOLUTION_MAX = 1e-12, 1e12
SERIES_MAX = 1_000_000  # of which one reader keeps the last integers: 24 MB with their grid

# Neither may be used by two threads at once: ticks are made and read in the event loop.
_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()


class Wait(StrEnum):
    """Why a tick cannot be read, though nothing is wrong with it."""

    JOINED = "no_key_frame"  # a delta, before any key of its run
    GAP = "sequence_gap"  # a delta, and the tick before it never came
    REPEATED = "repeated_tick"  # a delta that was read already


class Coder:
    """The sender's side of one run of a source: makes its ticks, in order.

    Every tick made must be sent: one that is not costs readers those up to the next key.
    """

    def __init__(self, layout: pb.Layout, key_every: int = KEY_EVERY) -> None:
        """Raise ContractError where a resolution is out of range."""
        self.layout = layout
        self._number = int(layout.layout_id, 16)
        self._key_every = key_every
        self._sequence = 0
        self._begun_ms = 0
        self._coded = len(layout.series) >= CODED_FROM
        if self._coded:
            from libs.common import planes

            self._write_block = planes.write_block
            count = len(layout.series)
            self._unit, self._parts = _grid(layout)
            self._zero = np.zeros(count, np.int64)
            self._before = self._zero.copy()
            self._now = self._zero.copy()
            self._zigzags = np.zeros(count, np.uint64)
            self._block = np.zeros(planes.block_bytes_max(count), np.uint8)

    def encode(self, values: "Floats", at_ms: int, next_by_ms: int) -> pb.Tick:
        """Make the next tick of `values`, (series,), that hold from `at_ms` until `next_by_ms`.

        Raises:
            ContractError: a value is infinite, or more than 2^53 steps of its resolution from
                zero; it is named. No tick is made then, and the next one follows the last.
        """
        if not self._coded:
            tick = floats(self.layout, values, at_ms, next_by_ms)
            self._sequence += 1
            tick.sequence = self._sequence
            return tick
        is_key = self._sequence % self._key_every == 0
        before = self._zero if is_key else self._before
        length, refused = self._write_block(
            np.ascontiguousarray(values, np.float64),
            self._unit,
            self._parts,
            before,
            self._now,
            self._zigzags,
            self._block,
        )
        if length < 0:
            raise _refusal(self.layout, refused, float(values[refused]))
        self._before, self._now = self._now, self._before
        self._sequence += 1
        if self._sequence == 1:
            self._begun_ms = at_ms
        data = _compressor.compress(self._block[:length].data)
        return pb.Tick(
            sequence=self._sequence,
            at_ms=at_ms,
            layout=self._number,
            holds_ms=_holds_ms(at_ms, next_by_ms),
            begun_ms=self._begun_ms,
            **{"key" if is_key else "delta": data},
        )


class Chain:
    """The reader's side of one run of a source: what its next delta differs from."""

    def __init__(self, layout: pb.Layout, begun_ms: int) -> None:
        """Raise ContractError where a resolution is out of range."""
        from libs.common import planes

        self.run = (layout.layout_id, begun_ms)
        self.integers: Ints = np.zeros(len(layout.series), np.int64)
        self.sequence = 0  # of the tick read last
        self.whole = False  # whether `integers` are those of that tick
        self._unit, self._parts = _grid(layout)
        self._block_bytes_max = planes.block_bytes_max(len(layout.series))
        self._read_block = planes.read_block

    def follow(self, tick: pb.Tick) -> "Floats | Wait":
        """Return the values of a tick of this run, (series,); NaN: not known.

        Raises:
            ContractError: its bytes are not a block of this layout.
        """
        is_key = tick.HasField("key")
        sequence = tick.sequence
        if not is_key:
            if self.whole and sequence <= self.sequence:
                return Wait.REPEATED
            if not self.whole or sequence != self.sequence + 1:
                self.whole = False
                return Wait.GAP
        block = self._decompress(tick.key if is_key else tick.delta)
        self.whole = False
        if is_key:
            self.integers.fill(0)
        values = np.empty(len(self.integers))
        if self._read_block(block, self._unit, self._parts, self.integers, values) < 0:
            raise ContractError(
                f"{len(block)} bytes are not {len(values)} finite values of layout {self.run[0]}"
            )
        self.sequence = sequence
        self.whole = True
        return values

    def _decompress(self, data: bytes) -> "Bytes":
        try:
            # Asked first, as memory for as much as it says would be taken.
            size = zstandard.frame_content_size(data)
            if not 0 <= size <= self._block_bytes_max:
                raise ContractError(f"{size} bytes of values of layout {self.run[0]}")
            return np.frombuffer(_decompressor.decompress(data), np.uint8)
        except zstandard.ZstdError as error:
            raise ContractError(f"values of layout {self.run[0]}: {error}") from error


class Chains:
    """Reads the ticks of all sources of one partition, remembering one run of each.

    Of more than `SERIES_MAX` series, the source that was heard longest ago is forgotten first, and
    read again from its next key on.
    """

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._series_max = series_max
        self._series = 0
        self._of: dict[str, Chain] = {}  # by source, the one heard last at the end

    def read(self, tick: pb.Tick, layout: pb.Layout) -> "Floats | Wait":
        """Return the values of a tick of `layout`, (series,), or why they cannot be told yet.

        Raises:
            ContractError: the tick does not fit its layout, or a value is infinite.
        """
        form = tick.WhichOneof("values")
        if form is None:
            raise ContractError("a tick without values")
        if form == "floats":
            return _read_floats(tick, layout)
        source = layout.source
        chain = self._of.get(source)
        if chain is None or chain.run != (layout.layout_id, tick.begun_ms):
            if form == "delta":
                return Wait.JOINED
            chain = Chain(layout, tick.begun_ms)
            self._forget(source)
            self._series += len(chain.integers)
            while self._of and self._series > self._series_max:
                self._forget(next(iter(self._of)))
        else:
            del self._of[source]
        self._of[source] = chain
        return chain.follow(tick)

    def held(self) -> Mapping[str, Chain]:
        """Return the run that is remembered of each source, the one heard last at the end."""
        return self._of

    def put(self, source: str, chain: Chain) -> None:
        """Remember a run as the one heard last, as it was when it was `held` elsewhere."""
        self._forget(source)
        self._of[source] = chain
        self._series += len(chain.integers)

    def _forget(self, source: str) -> None:
        chain = self._of.pop(source, None)
        if chain is not None:
            self._series -= len(chain.integers)


def layout_id(tick: pb.Tick) -> str:
    """Return the id of the layout that a tick names, as the layout itself says it."""
    return f"{tick.layout:016x}"


def floats(layout: pb.Layout, values: "Floats", at_ms: int, next_by_ms: int) -> pb.Tick:
    """Make a tick that stands alone, of `values`, (series,); NaN says not known.

    Raises:
        ContractError: a value is infinite; it is named.
    """
    assert len(values) == len(layout.series), (len(values), layout.layout_id)
    _check_finite(values, layout)
    return pb.Tick(
        at_ms=at_ms,
        layout=int(layout.layout_id, 16),
        holds_ms=_holds_ms(at_ms, next_by_ms),
        floats=np.ascontiguousarray(values, dtype="<f8").tobytes(),
    )


def tick_of_app_samples(samples: AppSamples) -> tuple[pb.Layout, pb.Tick]:
    """Return what an app sent as JSON in the form of a collector's tick, with its layout.

    Raises:
        ContractError: a sample names neither a model nor, for the whole message, a node.
    """
    series = []
    for sample in samples.samples:
        if not sample.model and not samples.node:
            raise ContractError(f"{sample.metric}: neither model nor node is given")
        kind = pb.Series.COUNTER if sample.kind == "counter" else pb.Series.GAUGE
        node = "" if sample.model else samples.node
        series.append(pb.Series(metric=sample.metric, kind=kind, model=sample.model, node=node))
    layout = layout_of(samples.source, series)
    values = np.array([sample.value for sample in samples.samples], dtype=np.float64)
    return layout, floats(layout, values, samples.at_ms, samples.next_by_ms)


def warm() -> None:
    """Compile the kernels, or read them from numba's cache: to be called before time matters."""
    layout = layout_of("warm", [pb.Series(metric=str(n)) for n in range(CODED_FROM)])
    coder, chains = Coder(layout), Chains()
    for at_ms in (1, 2):
        chains.read(coder.encode(np.zeros(CODED_FROM), at_ms, at_ms), layout)


def _read_floats(tick: pb.Tick, layout: pb.Layout) -> "Floats":
    data = tick.floats  # a copy at each access: read it once
    if len(data) != 8 * len(layout.series):
        raise ContractError(
            f"{len(data)} bytes of values, but layout {layout.layout_id} has "
            f"{len(layout.series)} series of 8 bytes"
        )
    values = np.frombuffer(data, dtype="<f8")
    _check_finite(values, layout)
    return values


def _check_finite(values: "Floats", layout: pb.Layout) -> None:
    if isfinite(values.dot(values)):  # a fifth of the time of looking at each
        return
    infinite = np.isinf(values)
    if infinite.any():
        raise _refusal(layout, int(infinite.argmax()), np.inf)


def _refusal(layout: pb.Layout, at: int, value: float) -> ContractError:
    series = layout.series[at]
    if np.isinf(value):
        return ContractError(f"{series.metric} is infinite")
    step = f"{series.resolution:g}"
    return ContractError(f"{series.metric}: {value:g} is more than 2^53 steps of {step}")


def _holds_ms(at_ms: int, next_by_ms: int) -> int:
    return min(max(0, next_by_ms - at_ms), HOLDS_MS_MAX)


def _grid(layout: pb.Layout) -> tuple["Floats", "Floats"]:
    """Return unit and parts of each series, (series,), as `planes.fractions` says."""
    from libs.common import planes

    resolution = np.array([one.resolution for one in layout.series], np.float64)
    inside = (resolution >= RESOLUTION_MIN) & (resolution <= RESOLUTION_MAX)
    wrong = (resolution != 0) & ~inside
    if wrong.any():
        one = layout.series[int(wrong.argmax())]
        raise ContractError(
            f"{one.metric}: a resolution of {one.resolution:g}, "
            f"not in [{RESOLUTION_MIN:g}, {RESOLUTION_MAX:g}]"
        )
    return planes.fractions(resolution)
