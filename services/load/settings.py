"""Settings of the load generator."""

from typing import Annotated

from pydantic import Field

from libs.common.messages import Name
from libs.common.settings import Section, Settings


class LoadSection(Section):
    """What is sent: a trace or seeded synthetic load, how much of it and for how long."""

    trace: str = Field(
        "", description="Azure LLM CSV, plain or .gz, for the model chat; empty: synthetic load"
    )
    copies: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="copies of the trace laid over each other, each shifted by up to 60 s"
    )
    duration_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        120.0, description="for how long requests are sent; 0: until it is stopped"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of all that is drawn")
    rates_rps: dict[Name, Annotated[float, Field(gt=0, le=10_000)]] = Field(
        {"chat": 6.0, "vision": 25.0, "embed": 40.0, "rerank": 15.0},
        min_length=1,
        description="mean arrival rate of each model, as JSON; a trace replaces that of chat",
    )
    run: str = Field(
        "", pattern="^[a-z0-9-]*$", description="begins each request id; empty: the start's time"
    )


class LoadSettings(Settings):
    """The sections that this service reads."""

    load: LoadSection = LoadSection()
