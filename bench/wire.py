"""`python -m bench.wire`: the bytes a sample takes on the wire, and the time, by encoding.

Every encoding's values are compared with those that were sent before anything is timed. The first
`KEY_EVERY` ticks are neither weighed nor timed: what follows is a source at work. Ours are charged
for one key in `KEY_EVERY`; Gorilla is not, as its published form begins a block every two hours.
Both are charged for the layout, spread over an hour of ticks: a source announces it when it starts.
Speed is that of encode and decode together, against JSON rows in the same round: the median of the
rounds' ratios.
"""

import gc
import json
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.encodings import BY_LAYOUT, ENCODINGS, FLOAT32
from bench.wire_load import PERIOD_MS, Load, Recording, load_of, record
from libs.common.adapters.host import PsutilHost
from libs.common.ticks import KEY_EVERY

SEED = 1
READINGS = 160
TICKS = {8: 60, 100: 60, 1000: 60, 20_000: 30}  # by size: how many are sent
ROUNDS = 5
PASSES_BELOW = 1000  # samples: smaller ticks are sent several times a round, or the clock shows
PASSES = 10
LAYOUT_TICKS = 3_600_000 / PERIOD_MS  # an hour of them

# The figures to reach at a tick of 1,000: ours, as a share of another's bytes.
GOALS = {"json_rows": 1 / 60, "json_zstd": 1 / 4, "gorilla": 0.6}


class Row(NamedTuple):
    """What was measured of one encoding at one size."""

    tick: int
    encoding: str
    bytes_per_sample: float
    speed_vs_json: float


def main() -> None:
    """Record, check, measure, and say it: a table for people, one line of JSON for programs."""
    console = Console()
    seconds = READINGS * PERIOD_MS / 1000
    console.print(f"recording this host for {seconds:.0f} s; load average {os.getloadavg()[0]:.1f}")
    recording = record(PsutilHost(), READINGS)
    console.print(f"it tells {', '.join(recording.metrics)}")
    rows = [row for count in TICKS for row in measure(recording, count)]
    console.print(_table(rows))
    console.print(_shares(recording))
    console.print(one_sample(recording))
    layout = load_of(recording, 1000, TICKS[1000], SEED).layout
    console.print(f"a layout of 1,000 series: {layout.ByteSize():,} bytes, once")
    print(json.dumps({"rows": [row._asdict() for row in rows]}))


def measure(recording: Recording, count: int) -> list[Row]:
    """Check and measure all encodings with ticks of `count` samples."""
    load = load_of(recording, count, TICKS[count], SEED)
    bytes_per_sample = {name: check(name, load) / count for name in ENCODINGS}
    speeds: dict[str, list[float]] = {name: [] for name in ENCODINGS}
    for _ in range(ROUNDS):
        spent_s = {name: _time(name, load) for name in ENCODINGS}
        for name, seconds in spent_s.items():
            speeds[name].append(spent_s["json_rows"] / seconds)
    median = {name: round(statistics.median(ratios), 2) for name, ratios in speeds.items()}
    return [Row(count, name, round(bytes_per_sample[name], 3), median[name]) for name in ENCODINGS]


def check(name: str, load: Load) -> float:
    """Send all ticks and compare what comes back; return the mean bytes of a tick.

    Raises:
        AssertionError: a value came back as another.
    """
    encoding = ENCODINGS[name](load)
    sizes = []
    for tick, row in enumerate(load.rows):
        message = encoding.encode(tick)
        got = np.asarray(encoding.decode(message), np.float64)
        sent = row.astype(np.float32).astype(np.float64) if name in FLOAT32 else row
        np.testing.assert_array_equal(got, sent, err_msg=f"{name}, tick {tick}")
        sizes.append(len(message))
    layout = load.layout.ByteSize() / LAYOUT_TICKS if name in BY_LAYOUT else 0.0
    return statistics.fmean(sizes[KEY_EVERY:]) + layout


def one_sample(recording: Recording) -> str:
    """Say what the message of one sample takes, beside its row of JSON."""
    load = load_of(recording, 1, KEY_EVERY + 1, SEED, host_share=0)
    ours, row = check("ours", load), check("json_rows", load) - len("[]")
    return (
        f"one sample's message: {ours:.0f} bytes, {1 - ours / row:.0%} less than JSON's {row:.0f}"
    )


def _time(name: str, load: Load) -> float:
    passes = PASSES if len(load.names) < PASSES_BELOW else 1
    encodings = [ENCODINGS[name](load) for _ in range(passes)]
    for encoding in encodings:
        for tick in range(KEY_EVERY):  # as a source runs: what is made once has been made
            encoding.decode(encoding.encode(tick))
    gc.collect()
    begun_s = time.perf_counter()
    for encoding in encodings:
        for tick in range(KEY_EVERY, len(load.rows)):
            encoding.decode(encoding.encode(tick))
    return (time.perf_counter() - begun_s) / passes


def _table(rows: list[Row]) -> Table:
    table = Table("tick", "encoding", "bytes/sample", "ours is", "speed vs JSON", box=None)
    ours = {row.tick: row.bytes_per_sample for row in rows if row.encoding == "ours"}
    for row in rows:
        share = ours[row.tick] / row.bytes_per_sample
        goal = GOALS.get(row.encoding) if row.tick == 1000 else None
        said = f"1/{1 / share:.1f}" + (f" (goal 1/{1 / goal:.1f})" if goal else "")
        table.add_row(
            str(row.tick),
            row.encoding,
            f"{row.bytes_per_sample:.2f}",
            said if row.encoding != "ours" else "",
            f"{row.speed_vs_json:.1f}",
        )
    return table


def _shares(recording: Recording) -> Table:
    """Show how the two halves of a tick of 1,000 do by themselves."""
    table = Table("1,000 samples of", *ENCODINGS, box=None)
    for what, share in (("recorded host metrics", 1.0), ("AR(1) GPU metrics", 0.0)):
        load = load_of(recording, 1000, TICKS[1000], SEED, host_share=share)
        sizes = [f"{check(name, load) / 1000:.2f}" for name in ENCODINGS]
        table.add_row(what, *sizes)
    return table


if __name__ == "__main__":
    main()
