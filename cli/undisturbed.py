"""The predictor's states as one run over all records leaves them, with no bus and no kill."""

from collections import defaultdict

from cli.follow import whole
from libs.common.adapters.clock import WallClock
from libs.common.adapters.memory import MemoryBus
from libs.common.ports import Bus, Record, Start
from libs.common.topics import METRICS_SAMPLES, PREDICTOR_SNAPSHOTS
from libs.common.wire import Origin

# The one place where the command line runs the predictor: it checks it.
from services.predictor import snapshots
from services.predictor.app import Predictor
from services.predictor.core import snapshot as core
from services.predictor.core.source import Policy
from services.predictor.declared import TOPICS, Declared, catch_up
from services.predictor.parts import Part, Parts
from services.predictor.snapshots import Snapshot

ORIGIN = Origin("cli", "undisturbed")


class _Undisturbed(Parts):
    """Partitions that begin with nothing, and of which nothing is kept."""

    async def get(self, partition: int) -> Part:
        if partition not in self._parts:
            self._parts[partition] = Part(partition)
        return self._parts[partition]


async def newest_snapshots(bus: Bus) -> dict[int, Snapshot]:
    """Return the newest snapshot of each partition that has one."""
    records: defaultdict[int, list[Record]] = defaultdict(list)
    async for record in whole(bus, PREDICTOR_SNAPSHOTS):
        records[record.partition].append(record)
    return {
        partition: snapshots.join(found[-snapshots.read_chunk(found[-1]).chunks :])
        for partition, found in records.items()
    }


async def undisturbed(bus: Bus) -> dict[int, bytes]:
    """Return the bytes of each partition's state after all of its records."""
    clock = WallClock()
    declared, nowhere = Declared(clock), MemoryBus(clock)
    async with bus.tail(TOPICS, Start.EARLIEST) as reader:
        await catch_up(declared, reader)
    parts = _Undisturbed(ORIGIN, nowhere, clock, declared, Policy(), 1000)
    predictor = Predictor(ORIGIN, nowhere, clock, Policy(), declared, parts)
    async for record in whole(bus, METRICS_SAMPLES):
        await predictor.take(record)
    return {part.partition: _bytes(part, declared) for part in parts._parts.values()}


def _bytes(part: Part, declared: Declared) -> bytes:
    packed = core.pack(part.state, declared.layouts)
    snapshots.pack_runs(part.chains, packed)
    return packed.SerializeToString(deterministic=True)
