"""The records that the executor writes, but for ticks. Event ids derive from what caused them."""

from libs.common import plimsoll_pb2 as pb
from libs.common.messages import Ack, DeviceSpec, FleetState, InferenceResult
from libs.common.ports import Outgoing
from libs.common.topics import (
    COMMANDS_ACKS,
    FLEET_STATE,
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    METRICS_LAYOUTS,
    REGISTRY_DEVICES,
)
from libs.common.wire import Origin, encode
from libs.fleet.router import End


def result(end: End, origin: Origin) -> Outgoing:
    """Return the result of a request. One that comes again after a crash has the same event id."""
    request, at_ms = end.request, int(end.at_ms)
    message = InferenceResult(
        request_id=request.request_id,
        model=request.model,
        status=end.status,
        reason=end.reason,
        due_at_ms=int(request.due_at_ms),
        ended_at_ms=at_ms,
        latency_ms=end.latency_ms,
        replica=end.replica,
        batch_size=end.batch_size,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
    )
    event_id = "-".join(map(str, (INFERENCE_REQUESTS.name, *request.place, 0)))
    return encode(INFERENCE_RESULTS, request.request_id, message, origin, event_id, at_ms)


def ack(message: Ack, origin: Origin) -> Outgoing:
    """Return the acknowledgement of a command."""
    key = message.command_id
    event_id = f"{key}-{message.status}"
    return encode(COMMANDS_ACKS, key, message, origin, event_id, message.at_ms)


def state(message: FleetState, origin: Origin) -> Outgoing:
    """Return what is where on a node."""
    event_id = f"{origin.instance}-{message.node}-{message.at_ms}"
    return encode(FLEET_STATE, message.node, message, origin, event_id, message.at_ms)


def layout(message: pb.Layout, origin: Origin, at_ms: int) -> Outgoing:
    """Return what a source's columns mean. Its id is a hash of them, so a repeat is no news."""
    key = message.layout_id
    return encode(METRICS_LAYOUTS, key, message, origin, key, at_ms)


def device(message: DeviceSpec, origin: Origin, at_ms: int) -> Outgoing:
    """Return the registration of a GPU."""
    event_id = f"{origin.instance}-{message.device}"
    return encode(REGISTRY_DEVICES, message.device, message, origin, event_id, at_ms)
