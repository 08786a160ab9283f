"""Settings of the collectors of one machine."""

import socket
from typing import Annotated

from pydantic import Field

from libs.common.messages import Name
from libs.common.settings import Section, Settings

PeriodMs = Annotated[int, Field(ge=100, le=3_600_000)]


class MetricsSection(Section):
    """What is read, how often, and under which name."""

    node: Name = Field(
        default_factory=socket.gethostname,
        description="name of this machine in samples and scores; default the host's own",
    )
    host_period_ms: PeriodMs = Field(1000, description="between readings of cpu, memory, network")
    disk_period_ms: PeriodMs = Field(5000, description="between readings of the disks")
    gpu_period_ms: PeriodMs = Field(1000, description="between readings of the GPUs")


class MetricsSettings(Settings):
    """All settings of the metrics service."""

    metrics: MetricsSection = MetricsSection()
