"""The partitions that this worker has: their states come back first, and are kept in snapshots.

A snapshot and the commit of its offset are one transaction, under an id of the partition. So the
group's offset is that of the newest snapshot, what is read again is known by its offset, and a
worker that lost a partition without hearing of it cannot write: it ends itself.
"""

import asyncio
import time

import structlog

from libs.common import plimsoll_pb2 as pb
from libs.common import ticks
from libs.common.errors import ContractError, Deposed
from libs.common.ports import Bus, Clock, Record, Tenure
from libs.common.topics import METRICS_SAMPLES, PREDICTOR_SNAPSHOTS
from libs.common.wire import Origin
from services.predictor import snapshots, telemetry
from services.predictor.core import snapshot as core
from services.predictor.core.partition import Partition
from services.predictor.core.source import Policy
from services.predictor.declared import Declared
from services.predictor.snapshots import Refused, Snapshot

log = structlog.get_logger()

GROUP = "predictor"
# Of the time, at most, into the snapshots of all partitions: large states are kept less often.
SHARE = 0.1
RELEASE_S = 3.0  # that a rebalance waits for the last snapshots
RETRY_MS = 500


class Part:
    """One partition: all that its records change, and how far they have come."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.state = Partition({})
        self.chains = ticks.Chains()
        self.next_offset = 0  # all before it is in the state
        self.first_offset = 0  # that, when this worker began
        self.heard_ms = 0  # when its last record came
        # What has changed since it was last sent: the record that changed it last.
        self.forecasts_due: Record | None = None
        self.scores_due: Record | None = None
        self.ready = asyncio.Event()  # the state is back, or this worker no longer has it
        self.gone = False
        self.still = asyncio.Lock()  # held while a record is taken: the state is between offsets
        self.saving = asyncio.Lock()
        self.tenure: Tenure | None = None
        self.saved_offset = -1  # of the newest snapshot; -1: there is none
        self.tried_offset = -1  # of one of which it is not known whether it was written
        self.chunks = 0  # of the newest snapshot


class Parts:
    """All partitions of this worker, by number."""

    def __init__(
        self,
        origin: Origin,
        bus: Bus,
        clock: Clock,
        declared: Declared,
        policy: Policy,
        every_ms: float,
    ) -> None:
        self._origin = origin
        self._bus = bus
        self._clock = clock
        self._declared = declared
        self._policy = policy
        self._every_ms = every_ms
        self._parts: dict[int, Part] = {}
        self._owning: dict[int, asyncio.Task[None]] = {}
        self._tasks = asyncio.TaskGroup()
        self._halted = False

    async def run(self) -> None:
        """Have partitions, until cancelled; raises Deposed where another has one of them."""
        async with self._tasks:
            await asyncio.Event().wait()

    def ready(self) -> list[Part]:
        """Return the partitions whose state is there."""
        return [part for part in self._parts.values() if part.ready.is_set()]

    async def get(self, partition: int) -> Part | None:
        """Return a partition once its state is there; None: this worker has it no more."""
        part = self._parts.get(partition)
        if part is not None:
            await part.ready.wait()
        return None if part is None or part.gone else part

    async def missed(self, part: Part, end: int) -> list[Record]:
        """Return the records before `end` that the state lacks, as far as the log has them.

        In a rebalance Faust may hand over what it had fetched before, and so pass over what lay in
        its queue. Waits for a broker that is away; nothing for a partition that is gone.
        """
        while not part.gone:
            try:
                if part.tenure is not None:
                    return await part.tenure.read(part.next_offset, end)
            except ConnectionError as error:
                log.warning("missed records wait", partition=part.partition, reason=str(error))
            await self._clock.sleep_until_ms(self._clock.now_ms() + RETRY_MS)
        return []

    def keep(self, mine: set[int]) -> None:
        """Have these partitions from now on; the state of those that stay is not read again."""
        for partition in self._parts.keys() - mine:
            part = self._parts.pop(partition)
            part.gone = True
            part.ready.set()
            self._owning.pop(partition).cancel()
            telemetry.forget_partition(partition)
        for partition in mine - self._parts.keys():
            part = self._parts[partition] = Part(partition)
            self._owning[partition] = self._tasks.create_task(self._own(part))
        self._halted = False

    async def release(self) -> None:
        """Leave all that was taken in snapshots, and write no more until it is said who has what.

        So a partition that moves goes on where it was, and its next owner deposes nobody at work.
        """
        saves = [self._tasks.create_task(self._save(part)) for part in self.ready()]
        if saves:
            await asyncio.wait(saves, timeout=RELEASE_S)
        self._halted = True

    async def _own(self, part: Part) -> None:
        """Have a partition until it is gone."""
        while True:
            try:
                async with self._bus.hold(
                    PREDICTOR_SNAPSHOTS, part.partition, METRICS_SAMPLES, GROUP
                ) as tenure:
                    await self._begin(part, tenure)
                    while part.tenure is tenure:
                        began_s = time.monotonic()
                        await self._save(part)
                        took_ms = 1000 * (time.monotonic() - began_s)
                        pause_ms = max(self._every_ms, took_ms * (len(self._parts) / SHARE - 1))
                        await self._clock.sleep_until_ms(self._clock.now_ms() + pause_ms)
            except ConnectionError as error:
                log.warning("a partition is not held", partition=part.partition, reason=str(error))
                await self._clock.sleep_until_ms(self._clock.now_ms() + RETRY_MS)

    async def _begin(self, part: Part, tenure: Tenure) -> None:
        """Bring a state back; or, after a doubt, find out that nobody else has written since.

        Raises:
            Deposed: somebody has.
        """
        if part.ready.is_set():
            found = await self._newest(part, tenure)
            newest = -1 if found is None else found.next_offset
            if newest not in (part.saved_offset, part.tried_offset):
                raise Deposed(f"partition {part.partition} went on without us")
            part.saved_offset = newest
        else:
            began_s = time.monotonic()
            telemetry.RESTORES.labels(await self._restore(part, tenure)).inc()
            telemetry.RESTORE.observe(time.monotonic() - began_s)
        part.tenure = tenure
        part.ready.set()

    async def _restore(self, part: Part, tenure: Tenure) -> str:
        """Bring the state back, if it can be had; returns what was found."""
        part.heard_ms = self._clock.now_ms()
        # Without a snapshot the whole log is read, wherever the group was.
        part.next_offset = part.first_offset = tenure.read_begin
        try:
            found = await self._newest(part, tenure)
            if found is None:
                return "none"
            if found.next_offset > tenure.read_end:
                raise Refused("other_log", f"it ends at {tenure.read_end}, before the snapshot")
            await asyncio.to_thread(self._unpack, part, found.state)
        except ContractError as error:
            kind = error.kind if isinstance(error, Refused) else "unreadable"
            reason = f"{error}: the state begins anew"
            log.warning("snapshot passed over", partition=part.partition, reason=reason)
            return kind
        part.saved_offset = found.next_offset
        part.next_offset = part.first_offset = max(found.next_offset, tenure.read_begin)
        telemetry.MISSING.inc(
            part.next_offset - found.next_offset
        )  # away for longer than they stay
        log.info(
            "state is back",
            partition=part.partition,
            next_offset=found.next_offset,
            sources=len(part.state.sources),
        )
        return "restored"

    async def _newest(self, part: Part, tenure: Tenure) -> Snapshot | None:
        """Return the newest snapshot of a partition; None: there is none. Raises Refused."""
        newest = await tenure.last(1)
        if not newest or newest[0].value is None:
            return None
        part.chunks = snapshots.read_chunk(newest[0]).chunks
        return snapshots.join(await tenure.last(part.chunks))

    def _unpack(self, part: Part, packed: pb.PartitionState) -> None:
        layouts = self._declared.layouts
        part.state = core.unpack(packed, layouts, self._declared.registry, self._policy)
        part.chains = snapshots.unpack_runs(packed, layouts)

    async def _save(self, part: Part) -> None:
        """Write a snapshot, if there is anything new. Raises Deposed."""
        async with part.saving:
            if part.tenure is None or part.gone or self._halted:
                return
            async with part.still:
                offset = part.next_offset
                if offset <= max(part.saved_offset, part.first_offset):
                    self._show_kept(part)
                    return
                packed = core.pack(part.state, self._declared.layouts)
                snapshots.pack_runs(part.chains, packed)
            data = await asyncio.to_thread(snapshots.compress, packed)
            now_ms = self._clock.now_ms()
            messages = snapshots.cut(
                data, part.partition, offset, part.chunks, self._origin, now_ms
            )
            part.tried_offset = offset
            try:
                await part.tenure.publish(messages, offset)
            except Deposed:
                if part.gone:
                    return  # as it should be: another has it
                raise
            except ConnectionError as error:
                log.warning("snapshot in doubt", partition=part.partition, reason=str(error))
                part.tenure = None
                return
            part.saved_offset = offset
            part.chunks = sum(message.value is not None for message in messages)
            telemetry.SNAPSHOT_BYTES.labels(part.partition).set(len(data))
            self._show_kept(part)

    def _show_kept(self, part: Part) -> None:
        telemetry.KEPT_TIMESTAMP.labels(part.partition).set(self._clock.now_ms() / 1000)
