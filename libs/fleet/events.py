"""What goes into a fleet and what comes out of it. Times are milliseconds on the caller's clock."""

from typing import Literal, NamedTuple


class FleetError(ValueError):
    """An order that the fleet cannot carry out; nothing has changed, and the text says why."""


class Request(NamedTuple):
    """One request on its way. The fleet only carries it."""

    request_id: str
    model: str
    due_at_ms: float
    place: tuple[int, int]  # partition and offset that it came from
    prompt_tokens: int = 0
    output_tokens: int = 0


class BatchEnded(NamedTuple):
    """A batch has been served."""

    at_ms: float
    replica: str
    model: str
    device_type: str
    service_ms: float  # s(b), without waiting and switching
    requests: tuple[Request, ...]


class Loaded(NamedTuple):
    """A replica is resident."""

    at_ms: float
    replica: str
    model: str
    device_type: str
    load_ms: float  # since it was ordered


class HandedBack(NamedTuple):
    """A replica goes, and these requests of it were not served: they belong elsewhere."""

    at_ms: float
    replica: str
    model: str
    requests: tuple[Request, ...]


class Gone(NamedTuple):
    """A replica has left its GPUs."""

    at_ms: float
    replica: str
    reason: Literal["ordered", "out of memory"]


class StepEnded(NamedTuple):
    """A training step has been kept."""

    at_ms: float
    device: str
    job: str


Event = BatchEnded | Loaded | HandedBack | Gone | StepEnded
