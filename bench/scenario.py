"""A scenario: a fleet, its models, and the load they get, read from one YAML file and checked.

`models` and `fleet` are written as in `deploy/models.yaml` and `deploy/fleet.yaml`. What is wrong
is refused whole, in one line that names the file, the key and the value. Nothing here runs.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from libs.common.errors import SettingError
from libs.common.messages import ModelSpec, Positive
from libs.fleet.spec import FleetSpec, read_yaml

FOLDER = Path(__file__).parent / "scenarios"
# Of the published statistics that the built-in generator knows, see `services/load/core/synthetic`.
ClientsName = Literal["m_large", "m_small", "mm_image", "poisson"]
ProfileName = Literal["m_large", "m_small"]  # of `bench/days.py`
Lengths = tuple[Positive, Positive]  # mean and median, in tokens


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="forbid")


class DaysSpec(_Part):
    """A rate that goes with the day, and days before the run, of which policies may learn."""

    profile: ProfileName
    history_days: Annotated[int, Field(ge=0, le=60)] = 14
    begins_h: Annotated[float, Field(ge=0, lt=24)] = (
        0.0  # the hour of the day at which the run begins
    )


class LoadSpec(_Part):
    """What one model is sent: a trace, or what the built-in generator draws."""

    trace: Path | None = None  # relative to the scenario's file
    copies: Annotated[int, Field(ge=1, le=1000)] = 1  # laid over each other, each shifted by 0-60 s
    rate_rps: Positive | None = None  # of one copy, in the mean; with days, of many days
    clients: ClientsName = "poisson"
    # From, to (parts of the run) and how many times the rate of the rest comes then.
    burst: tuple[
        Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)], Positive
    ] = (0.0, 0.0, 1.0)
    days: DaysSpec | None = None
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.trace is None) == (self.rate_rps is None):
            raise ValueError("either trace or rate_rps is given")
        if self.burst[0] > self.burst[1]:
            raise ValueError(f"burst begins at {self.burst[0]:g}, after its end {self.burst[1]:g}")
        if self.days and (self.trace or self.burst[0] < self.burst[1]):
            raise ValueError("days go with rate_rps, not with a trace or a burst")
        for name in ("prompt_tokens", "output_tokens"):
            lengths = getattr(self, name)
            if lengths is not None and lengths[0] < lengths[1]:
                raise ValueError(f"{name}: the mean {lengths[0]:g} is below the median")
        return self


class Scenario(_Part):
    """One file of `bench/scenarios/`, checked."""

    name: str = ""  # of the file
    about: str
    kind: Literal["smooth", "bursty", "very bursty"]
    duration_s: Annotated[float, Field(gt=0, le=1_000_000)]
    warmup_s: Annotated[float, Field(ge=0)] = 120.0
    switch_ms: Annotated[float, Field(ge=0)] = 10.0  # between serving and training, each way
    cold_start_s: Positive | None = None  # of every model alone on its node; None: as they say
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    fleet: FleetSpec
    load: dict[str, LoadSpec]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warmup_s >= self.duration_s:
            raise ValueError(
                f"warmup_s {self.warmup_s:g} is not below duration_s {self.duration_s:g}"
            )
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"model {name!r} stands there twice")
        for name in sorted(set(names) ^ set(self.load)):
            lacks = "models" if name in self.load else "load"
            raise ValueError(f"model {name!r} stands not under {lacks}")
        for model in self.models:
            _check_fits(model, self.fleet)
            load = self.load[model.name]
            drawn = load.trace is None
            if model.kind == "llm" and drawn and not (load.prompt_tokens and load.output_tokens):
                raise ValueError(f"load.{model.name}: an LLM's prompt_tokens and output_tokens")
        return self

    def with_cold_start(self, cold_start_s: float) -> "Scenario":
        """Return it with every model taking so long to load, alone on its node.

        What bytes and compilation leave is the image's part. On a fleet with several disks the
        slowest counts. The warm-up is twice as long at least: what `static` loads at the start
        must be there, and what waited for it be done, before anything is judged.

        Raises:
            SettingError: a model's bytes and compilation alone take longer.
        """
        slowest = min(node.load_bytes_per_s for node in self.fleet.nodes)
        models = []
        for model in self.models:
            size = model.load.bytes or model.weights_bytes
            image_s = cold_start_s - size / slowest - model.load.compile_s
            if image_s < 0:
                raise SettingError(
                    f"{self.name}: cold_start_s {cold_start_s:g} is below the "
                    f"{cold_start_s - image_s:g} s that {model.name} takes to read and compile"
                )
            load = model.load.model_copy(update={"image_s": round(image_s, 3)})
            models.append(model.model_copy(update={"load": load}))
        warmup_s = max(self.warmup_s, 2 * cold_start_s)
        if warmup_s >= self.duration_s:
            raise SettingError(
                f"{self.name}: cold_start_s {cold_start_s:g} wants a warm-up of {warmup_s:g} s, "
                f"which is not below duration_s {self.duration_s:g}"
            )
        changed = {"models": tuple(models), "cold_start_s": cold_start_s, "warmup_s": warmup_s}
        return self.model_copy(update=changed)

    def with_traces(self, traces: dict[str, Path]) -> "Scenario":
        """Return it with the load of some models read from files; their copies stay.

        Raises:
            SettingError: no such model.
        """
        load = dict(self.load)
        for model, path in traces.items():
            if model not in load:
                raise SettingError(
                    f"--trace {model}={path}: scenario {self.name} has no model {model!r}, "
                    f"but {', '.join(sorted(load))}"
                )
            load[model] = LoadSpec(trace=path, copies=load[model].copies)
        return self.model_copy(update={"load": load})


def names() -> list[str]:
    """Return the scenarios that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_scenario(name: str) -> Scenario:
    """Read a scenario by its name, or by the path of a file.

    Raises:
        SettingError: there is none, or something in it is wrong; one line that says where.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
        if name not in names():
            raise SettingError(f"no scenario {name!r}; there are {', '.join(names())}")
    scenario = read_yaml(path, Scenario)
    load = {
        model: spec
        if spec.trace is None
        else spec.model_copy(update={"trace": path.parent / spec.trace})
        for model, spec in scenario.load.items()
    }
    scenario = scenario.model_copy(update={"name": path.stem, "load": load})
    if scenario.cold_start_s is not None:
        scenario = scenario.with_cold_start(scenario.cold_start_s)
    return scenario


def _check_fits(model: ModelSpec, fleet: FleetSpec) -> None:
    """Refuse a model for which no node has enough GPUs, memory and a law. Raises ValueError."""
    each = -(-model.resident_bytes // model.gpus)
    if model.kind == "batch":
        each += -(-model.request_bytes // model.gpus)
    known = [node for node in fleet.nodes if node.device_type in model.law]
    if not known:
        raise ValueError(
            f"model {model.name!r} fits on no GPU: it has a law for {', '.join(model.law)}, "
            f"and the fleet {', '.join(sorted({n.device_type for n in fleet.nodes}))}"
        )
    wide = [node for node in known if node.gpus >= model.gpus]
    if not wide:
        raise ValueError(
            f"model {model.name!r} fits on no GPU: it takes {model.gpus} of one node, and the "
            f"largest has {max(node.gpus for node in known)}"
        )
    largest = max(fleet.device_types[node.device_type].memory_bytes for node in wide)
    if each > largest:
        raise ValueError(
            f"model {model.name!r} fits on no GPU: it needs {each} bytes of each, and the largest "
            f"has {largest}"
        )
