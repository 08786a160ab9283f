"""What can be set of the executor."""

from typing import Annotated

from pydantic import Field

from libs.common.settings import Section, Settings


class ExecutorSection(Section):
    """The simulated fleet and its router. Env: `PLIMSOLL_EXECUTOR__*`."""

    fleet_file: str = Field("deploy/fleet.yaml", description="the fleet to simulate")
    sample_ms: Annotated[int, Field(ge=10, le=1000)] = Field(
        100, description="between two samples of the router, on a grid of the wall clock"
    )
    switch_ms: Annotated[float, Field(ge=0, le=10_000)] = Field(
        10.0, description="a GPU's change from training to serving, and back"
    )
    requests_max: Annotated[int, Field(ge=1)] = Field(
        100_000, description="requests in hand; beyond, the rest waits on the bus"
    )
    outbox_max: Annotated[int, Field(ge=1)] = Field(
        20_000,
        description="messages waiting for the broker; beyond, no samples, and requests wait",
    )


class ExecutorSettings(Settings):
    """All settings of this service."""

    executor: ExecutorSection = ExecutorSection()
