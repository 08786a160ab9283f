"""Settings of the scheduler; `core/policy.py` says what each number of the policy means."""

from typing import Annotated, Literal

from pydantic import Field

from libs.common.settings import RedisSection, Section, Settings
from services.scheduler.core.policy import Policy

DEFAULT = Policy()


class SchedulerSection(Section):
    """The pace of the loop and what it aims for."""

    tick_ms: Annotated[int, Field(ge=50, le=10_000)] = Field(
        200, description="time between two ticks, on the grid of the wall clock"
    )
    mode: Literal["live", "shadow"] = Field(
        "live", description="shadow: decide and explain, command nothing, say what it would save"
    )
    wait_ms: Annotated[int, Field(ge=0, le=5000)] = Field(
        80, description="how long a tick waits, at most, for forecasts of the samples taken on it"
    )
    util_target: Annotated[float, Field(gt=0, le=0.95)] = Field(
        DEFAULT.util_target, description="how full of expected load a replica may be"
    )
    theta: Annotated[float, Field(ge=0.1, le=0.85)] = Field(
        DEFAULT.theta_initial,
        description="part of the objective that the router lets a prediction fill, at first",
    )
    standby_grant: Annotated[int, Field(ge=0, le=1000)] = Field(
        DEFAULT.standby_grant, description="replicas beyond those needed that the router may wake"
    )
    standby_memory_share: Annotated[float, Field(ge=0, le=1)] = Field(
        DEFAULT.standby_memory_share,
        description="of a GPU's memory, the most that replicas beyond need may fill",
    )
    weight_rule: bool = Field(
        DEFAULT.weight_rule,
        description="split GPUs by weights of latency and utilisation, a rule to compare with",
    )
    miss_cost: Annotated[float, Field(ge=1, le=1e6)] = Field(
        DEFAULT.cost_miss,
        description="cost of a GPU's worth of missed requests, an idle GPU's is 1",
    )
    shrink_hold_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        DEFAULT.shrink_hold_ms / 1000,
        description="how long a model must have had too many replicas before one goes",
    )

    moves_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        DEFAULT.moves_max, description="loads and drains ordered in one tick that places, at most"
    )
    commands_max: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        DEFAULT.commands_max, description="targets, and batches, set in one tick, at most"
    )

    def policy(self) -> Policy:
        """Return the policy that the core is given."""
        return DEFAULT._replace(
            util_target=self.util_target,
            theta_initial=self.theta,
            standby_grant=self.standby_grant,
            standby_memory_share=self.standby_memory_share,
            weight_rule=self.weight_rule,
            cost_miss=self.miss_cost,
            moves_max=self.moves_max,
            commands_max=self.commands_max,
            shrink_hold_ms=round(self.shrink_hold_s * 1000),
        )


class SchedulerSettings(Settings):
    """The sections that this service reads."""

    redis: RedisSection = RedisSection()
    scheduler: SchedulerSection = SchedulerSection()
