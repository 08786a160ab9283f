"""Where a replica of an autoscaler goes: the first GPUs of one node that no other replica is on.

Kubernetes gives whole GPUs, so two replicas never share one; training jobs give way. A replica for
which there is no place stays wanted and is tried again, as a pending pod is.
"""

from libs.common.messages import ModelSpec
from libs.fleet.model import FleetError, FleetModel

Place = tuple[str, tuple[int, ...]]


class Places:
    """The groups of GPUs of a fleet, and which are taken."""

    def __init__(self, fleet: FleetModel) -> None:
        self._fleet = fleet
        self._gpus: dict[str, int] = {}
        self._types: dict[str, str] = {}
        for device in fleet.devices:
            self._gpus[device.node] = self._gpus.get(device.node, 0) + 1
            self._types[device.node] = device.device_type

    def free(self, spec: ModelSpec) -> Place | None:
        """Return the first aligned group of free GPUs of the type that serves the model fastest."""
        taken = {
            (node, gpu)
            for name in self._fleet.replicas
            for node, gpus in (place_of(name),)
            for gpu in gpus
        }
        down = self._fleet.down
        found: list[tuple[float, int, Place]] = []
        for order, (node, count) in enumerate(self._gpus.items()):
            law = spec.law.get(self._types[node])
            if law is None:
                continue
            for first in range(0, count - spec.gpus + 1, spec.gpus):
                group = tuple(range(first, first + spec.gpus))
                if any((node, g) in taken for g in group):
                    continue
                if any(down[self._fleet.gpu_index[f"{node}/{g}"]] for g in group):
                    continue
                found.append((_slowness(law), order, (node, group)))
                break
        return min(found)[2] if found else None

    def load(self, spec: ModelSpec, *, at_once: bool = False) -> str | None:
        """Order one more replica, or put it there `at_once`; return its name, None: no place."""
        place = self.free(spec)
        if place is None:
            return None
        try:
            name = (self._fleet.place if at_once else self._fleet.load)(spec.name, *place)
        except FleetError:
            return None
        return name


def place_of(replica: str) -> Place:
    """Return the node and GPUs in a replica's name."""
    node, _, gpus = replica.rpartition("@")[2].rpartition(":")
    return node, tuple(map(int, gpus.split("+")))


def _slowness(law: object) -> float:
    """Return what orders device types: the time of the smallest piece of work."""
    fields = ("alpha_ms", "beta_ms", "base_ms", "prefill_token_ms", "decode_seq_ms")
    return sum(float(getattr(law, field, 0.0)) for field in fields)
