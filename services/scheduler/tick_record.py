"""The tick record: what one tick saw and left, so that a successor goes on and anyone can check."""

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from services.scheduler.core.contracts import Decision, Observation, State
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy


def record_of(seen: Observation, state: State, seen_until_ms: int) -> pb.TickRecord:
    """Return the record of a tick that saw `seen` and left `state`."""
    return pb.TickRecord(
        epoch=seen.epoch,
        tick=seen.tick,
        seen_until_ms=seen_until_ms,
        observation=wire.pack_columns(seen),
        state=wire.pack_columns(state),
    )


def state_in(record: pb.TickRecord) -> State:
    """Return the state that a tick left.

    Raises:
        ContractError: the record is of another version, and lacks a part of the state.
    """
    return wire.unpack_columns(record.state, State)


def replay(before: State, record: pb.TickRecord, policy: Policy) -> Decision:
    """Run a recorded tick again, from the state in the record before it.

    Raises:
        ContractError: the record is of another version, and lacks a part of the observation.
    """
    return decide(before, wire.unpack_columns(record.observation, Observation), policy)
