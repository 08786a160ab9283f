"""How replicas get onto their GPUs: start the node, pull the image, move the weights, compile.

Loading takes memory and bandwidth, not compute. The loads of a node share its bandwidth evenly.
"""

import heapq

from libs.fleet.events import Loaded
from libs.fleet.gpu import Replica
from libs.fleet.timeline import NEVER_MS, Timeline

# A transfer ends when less than a microsecond of it is left: epoch milliseconds as floats are 0.24
# microseconds apart, so its end cannot be hit more exactly.
TOLERANCE_MS = 0.001


class Link:
    """A node's path for weights, as processor sharing: n transfers get 1/n of the bandwidth each.

    All get the same number of bytes, so one running total serves them all: a transfer ends when the
    total has grown by its size since it began.
    """

    def __init__(self, bytes_per_s: float, at_ms: float) -> None:
        self._bytes_per_ms = bytes_per_s / 1000
        self._total_bytes = 0.0  # given so far to each transfer that was there all along
        self._settled_ms = at_ms
        self._ends: list[tuple[float, str]] = []  # total at which a transfer ends, its name

    def begin(self, name: str, size_bytes: float, at_ms: float) -> None:
        """Add a transfer."""
        self._settle(at_ms)
        heapq.heappush(self._ends, (self._total_bytes + size_bytes, name))

    def abandon(self, name: str, at_ms: float) -> None:
        """Remove a transfer, if it is there; the others speed up."""
        self._settle(at_ms)
        self._ends = [end for end in self._ends if end[1] != name]
        heapq.heapify(self._ends)

    def ended(self, at_ms: float) -> list[str]:
        """Remove the transfers that have ended by `at_ms`, and return their names."""
        self._settle(at_ms)
        names = []
        while self.next_end_ms() <= at_ms + TOLERANCE_MS:
            names.append(heapq.heappop(self._ends)[1])
        return names

    def next_end_ms(self) -> float:
        """Return when the next transfer ends if none is added; infinity when there is none."""
        if not self._ends:
            return NEVER_MS
        left_bytes = max(0.0, self._ends[0][0] - self._total_bytes)
        return self._settled_ms + left_bytes * len(self._ends) / self._bytes_per_ms

    def _settle(self, at_ms: float) -> None:
        assert at_ms >= self._settled_ms, (at_ms, self._settled_ms)
        if self._ends:
            elapsed_ms = at_ms - self._settled_ms
            self._total_bytes += elapsed_ms * self._bytes_per_ms / len(self._ends)
        self._settled_ms = at_ms


class NodeLoader:
    """The loads of one node."""

    def __init__(self, timeline: Timeline, bytes_per_s: float, start_s: float) -> None:
        self._timeline = timeline
        self._link = Link(bytes_per_s, timeline.now_ms)
        self._start_ms = start_s * 1000
        self._moving: dict[str, Replica] = {}
        self._link_look_ms = NEVER_MS
        # When the node runs; infinity until a first load starts one that does not.
        self.started_ms = NEVER_MS if start_s else timeline.now_ms

    def begin(self, replica: Replica) -> None:
        """Load a replica whose memory is there; `Loaded` is told once it is resident."""
        now_ms = self._timeline.now_ms
        if self.started_ms == NEVER_MS:
            self.started_ms = now_ms + self._start_ms
        move_from_ms = max(now_ms, self.started_ms) + replica.spec.load.image_s * 1000
        self._timeline.at(move_from_ms, self._move, replica)

    def abandon(self, replica: Replica) -> None:
        """Stop a load wherever it stands."""
        self._moving.pop(replica.name, None)
        self._link.abandon(replica.name, self._timeline.now_ms)
        self._look_at_link(None)

    def _move(self, replica: Replica) -> None:
        if replica.state != "loading":
            return  # ordered away meanwhile
        size_bytes = replica.spec.load.bytes or replica.spec.weights_bytes
        self._moving[replica.name] = replica
        self._link.begin(replica.name, size_bytes, self._timeline.now_ms)
        self._look_at_link(None)

    def _look_at_link(self, _: None) -> None:
        for name in self._link.ended(self._timeline.now_ms):
            replica = self._moving.pop(name)
            compiled_ms = self._timeline.now_ms + replica.spec.load.compile_s * 1000
            self._timeline.at(compiled_ms, self._finish, replica)
        next_ms = self._link.next_end_ms()
        if next_ms not in (self._link_look_ms, NEVER_MS):
            self._timeline.at(next_ms, self._look_at_link, None)
        self._link_look_ms = next_ms

    def _finish(self, replica: Replica) -> None:
        if replica.state != "loading":
            return
        replica.state = "resident"
        gpu = replica.gpus[0]
        self._timeline.changed.add(gpu.node)
        now_ms = self._timeline.now_ms
        load_ms = now_ms - replica.ordered_ms
        self._timeline.tell(
            Loaded(now_ms, replica.name, replica.spec.name, gpu.device_type, load_ms)
        )
