"""What a service may ask of the world: time and the bus. Real and in-memory adapters stand behind.

Both adapters pass one contract test (`tests/common/test_ports_contract.py`). Nothing here decides
or computes; a port that grows past four methods is two ports.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import NamedTuple, Protocol, TypeVar

from libs.common.messages import InventoryVerdict
from libs.common.topics import Topic

R = TypeVar("R")


class Record(NamedTuple):
    """One message as it came off the bus."""

    topic: str  # the table's name, without a cluster's prefix
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    timestamp_ms: int

    @property
    def event_id(self) -> str:
        """The id of what this message causes: derived, so that a replay makes the same one."""
        return f"{self.topic}-{self.partition}-{self.offset}"


class Outgoing(NamedTuple):
    """One message to be sent."""

    topic: str
    key: str
    value: bytes | None  # None: a tombstone, which removes the key from a compacted topic
    headers: Mapping[str, bytes] = {}
    partition: int | None = None  # None: by the key, as every Kafka client does


class Start(Enum):
    """Where a reader without a group begins."""

    EARLIEST = "earliest"
    RECENT = "recent"  # the last `RECENT_OFFSETS` of each partition: enough to find the newest
    LATEST = "latest"


RECENT_OFFSETS = 100


class HostReading(NamedTuple):
    """What a machine says of itself; seconds and bytes are counted since it started."""

    cpu_busy_s: float  # over all cores
    cpu_count: float
    memory_used_bytes: float
    memory_total_bytes: float
    network_bytes: float  # in and out; NaN: not known


class GpuReading(NamedTuple):
    """What a GPU says of itself, in base units; NaN: it does not say."""

    gpu: int
    utilization: float  # in [0, 1]
    memory_used_bytes: float
    memory_total_bytes: float
    power_w: float
    energy_j: float  # since the driver was loaded
    temperature_c: float


class Host(Protocol):
    """The machine that this process runs on. Readings take milliseconds, and block."""

    def read(self) -> HostReading:
        """Return cpu, memory and network."""
        ...

    def disk_busy_s(self) -> float:
        """Return the seconds, counted on and on, that the busiest disk was at work; NaN: none."""
        ...


class Device(Protocol):
    """The GPUs of this machine. Readings take milliseconds, and block."""

    def read(self) -> Sequence[GpuReading]:
        """Return one reading of each GPU, always of the same ones in the same order."""
        ...


class Clock(Protocol):
    """Wall time as UTC epoch milliseconds."""

    def now_ms(self) -> int:
        """Return the present."""
        ...

    async def sleep_until_ms(self, at_ms: float) -> None:
        """Return once `now_ms()` has reached `at_ms`; at once if it is past."""
        ...


class Reader(Protocol):
    """A stream of committed records, in order within a partition."""

    async def poll(self, max_wait_s: float) -> list[Record]:
        """Return what has come, waiting up to `max_wait_s` for a first record; may be empty."""
        ...

    def caught_up(self) -> bool:
        """Return whether all that stood on the topics when reading began has been returned."""
        ...


class GroupReader(Reader, Protocol):
    """A reader that shares its topics' partitions with the other members of its group."""

    def hold(self, held: bool) -> None:
        """Say that messages are left unread on purpose, so that it is not taken for stuck."""
        ...

    async def commit(self, next_offsets: Mapping[tuple[str, int], int]) -> None:
        """Remember, by (topic, partition), the first offset that a successor must read again.

        A partition that has meanwhile gone to another member is passed over.
        """
        ...


class Term(Protocol):
    """One instance's time as leader, fenced against all that came before."""

    @property
    def epoch(self) -> int:
        """Larger than that of every earlier term."""
        ...

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish all of them or none, as one transaction.

        Raises:
            Deposed: another instance leads; nothing of this call will ever be read.
        """
        ...


class Candidacy(Protocol):
    """A standing offer to lead."""

    async def elected(self) -> Term:
        """Wait until this instance leads. Its predecessors are fenced when this returns."""
        ...


class Tenure(Protocol):
    """The right to write one partition of a topic, and to commit what was read to get there."""

    @property
    def read_begin(self) -> int:
        """Where the log that is read began when this tenure did."""
        ...

    @property
    def read_end(self) -> int:
        """Where it ended then."""
        ...

    async def last(self, count: int) -> list[Record]:
        """Return the newest `count` committed records of the partition, or all there are.

        Raises:
            ConnectionError: the broker is away.
        """
        ...

    async def read(self, first: int, end: int) -> list[Record]:
        """Return the records with these offsets of the log that is read, as far as it has them.

        Raises:
            ConnectionError: the broker is away.
        """
        ...

    async def publish(self, messages: Sequence[Outgoing], next_offset: int) -> None:
        """Publish all and commit the first offset that a successor must read, or none of it.

        Raises:
            Deposed: another has this partition now; nothing of this call will ever be read.
            ConnectionError: it is not known whether it was written. This tenure is over; another
                one of the same instance may find out.
        """
        ...


class Bus(Protocol):
    """The log that all services share."""

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return once every message is acknowledged; a broker that is away is waited for."""
        ...

    def tail(self, topics: Sequence[Topic], start: Start) -> AbstractAsyncContextManager[Reader]:
        """Read every partition of `topics`, alone, from `start` on."""
        ...

    def subscribe(
        self, topics: Sequence[Topic], group: str
    ) -> AbstractAsyncContextManager[GroupReader]:
        """Read as a member of `group`, from the committed offsets on (earliest where none are)."""
        ...

    def stand(self, topic: Topic, instance: str) -> AbstractAsyncContextManager[Candidacy]:
        """Stand for leader by `topic`, of one partition, where each leader leaves its claim."""
        ...

    def hold(
        self, topic: Topic, partition: int, read: Topic, group: str
    ) -> AbstractAsyncContextManager[Tenure]:
        """Be the only writer of a partition, for what `group` reads in the same one of `read`.

        Whoever had it before is deposed when this is entered.
        """
        ...

    def partition_of(self, topic: Topic, key: str) -> int:
        """Return the partition that a message with this key goes to."""
        ...


KeyOf = tuple[str, bytes]  # a topic's name, and the key of one of its records


class Cache(Protocol):
    """Copies of the newest record of each key, quick to read, that may vanish at any time.

    Several writers fill it from the same log. Every call ends within a second, in ConnectionError
    where the cache is away.
    """

    async def begin(self, topics: Sequence[Topic]) -> Mapping[KeyOf, int]:
        """Leave a mark that goes when the cache is emptied; returns the offsets that it holds."""
        ...

    async def put(self, records: Sequence[Record], forget: Mapping[KeyOf, int] = {}) -> bool:
        """Keep each record unless a later one of its key is held; a tombstone removes the key.

        Before that, the keys of `forget` go whose offset is still the one given.

        Returns:
            Whether the mark of `begin` is still there: what was put after it is, too.
        """
        ...

    async def newest(self, topics: Sequence[Topic]) -> Mapping[KeyOf, bytes]:
        """Return the values held; none where nobody has kept them up for some seconds."""
        ...


class Settled(NamedTuple):
    """What is remembered of an order: its verdict, and a digest of what it asked."""

    content: str
    verdict: InventoryVerdict


class Shortage(NamedTuple):
    """The first line of an order that the stock could not carry."""

    item: str
    in_stock: int | None  # None: nobody has ever stocked this item


class Move(NamedTuple):
    """What one line changes in the books of its item."""

    stock: int
    reserved: int = 0


class Reservation(NamedTuple):
    """Stock that is held for an order to come."""

    quantities: Mapping[str, int]
    expires_at_ms: int
    state: str  # held, or how it ended


class Announcement(NamedTuple):
    """A message that waits in the outbox until the bus has acknowledged it."""

    message: Outgoing
    ordered_at_ms: int  # when the order that caused it was sent
    decided_at_ms: int


class Ledger(Protocol):
    """The inventory's books, open within one transaction."""

    async def open(
        self, order_ids: Sequence[str], items: Sequence[str], reservations: Sequence[str] = ()
    ) -> Mapping[str, Settled]:
        """Begin: keep all others from the stock of `items` and of what the reservations hold.

        Returns:
            By order id, those of the orders that have their verdict already.
        """
        ...

    async def move(
        self, moves: Mapping[str, Move], *, may_add: bool = False
    ) -> Mapping[str, int] | Shortage:
        """Change the books of every item, or of none where a stock would fall below 0.

        Returns:
            The new version of each item's books, or what was short. `may_add`: an item that nobody
            has stocked yet begins at 0.
        """
        ...

    async def reservation(self, order_id: str) -> Reservation | None:
        """Return what that order reserved, kept from all others until the end."""
        ...

    async def reserve(self, order_id: str, quantities: Mapping[str, int], until_ms: int) -> None:
        """Remember a new reservation."""
        ...

    async def end(self, order_id: str, state: str) -> None:
        """Note how a reservation ended."""
        ...

    async def expired(self, now_ms: int, limit: int) -> Sequence[str]:
        """Return the orders whose reservations are held and due, oldest first."""
        ...

    async def settle(self, orders: Sequence[Settled], outbox: Sequence[Announcement]) -> None:
        """Remember the orders, each new and unique, and put the messages last in the outbox."""
        ...


class Store(Protocol):
    """A database that keeps the inventory's books and its outbox."""

    async def transact(self, work: Callable[[Ledger], Awaitable[R]]) -> R:
        """Return what `work` returns once all that it did is on disk; if it raises, none is.

        Passing trouble (a lock, a lost race, a lost connection) runs `work` again from its start.
        """
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Be the only one inside, of all instances on this database; wait for one's turn.

        A turn that does not come for some seconds is taken: whoever has it may hang.
        """
        ...

    async def unsent(self, limit: int) -> Mapping[int, Announcement]:
        """Return what has waited longest, by place in the outbox; iterates in that order."""
        ...

    async def sent(self, places: Sequence[int]) -> None:
        """Take acknowledged messages out of the outbox."""
        ...

    async def forget(self, before_ms: int, limit: int) -> int:
        """Forget orders decided before then, at most `limit`; returns how many there were.

        Reservations that ended go with the order that made them.
        """
        ...
