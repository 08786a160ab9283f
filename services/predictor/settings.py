"""Settings of the predictor: what an operator may want other than it is."""

from typing import Annotated

from pydantic import Field, model_validator

from libs.common.settings import Section, Settings
from services.predictor.core.node_scores import Weights
from services.predictor.core.source import Policy

Weight = Annotated[float, Field(ge=0, le=1)]


class PredictorSection(Section):
    """How nodes are scored, and what bounds a worker."""

    weight_cpu: Weight = Field(0.4, description="of cpu in a node's score; the four sum to 1")
    weight_memory: Weight = Field(0.3, description="of memory in a node's score")
    weight_disk: Weight = Field(0.2, description="of disk in a node's score")
    weight_network: Weight = Field(0.1, description="of network in a node's score")
    network_bytes_per_s: Annotated[float, Field(gt=0)] = Field(
        125e6, description="bandwidth of a node; where more is seen, that counts"
    )
    decision_ms: Annotated[float, Field(ge=0, le=60_000)] = Field(
        2200.0, description="from a forecast to the order it leads to; part of each lead time"
    )
    series_max: Annotated[int, Field(gt=0)] = Field(
        250_000, description="series of one partition; a source that would exceed it is left out"
    )

    snapshot_ms: Annotated[float, Field(ge=50, le=60_000)] = Field(
        1000.0, description="between two snapshots of a partition; what is since is read again"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> "PredictorSection":
        total = self.weight_cpu + self.weight_memory + self.weight_disk + self.weight_network
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the four weights of a node's score sum to {total:g}, not to 1")
        return self

    def policy(self) -> Policy:
        """Return what the core is told of this."""
        weights = Weights(
            self.weight_cpu, self.weight_memory, self.weight_disk, self.weight_network
        )
        return Policy(weights, self.network_bytes_per_s, self.decision_ms, self.series_max)


class PredictorSettings(Settings):
    """All settings of the predictor."""

    predictor: PredictorSection = PredictorSection()
