"""What a fleet and its models are, read from `fleet.yaml` and `models.yaml`.

A file that is wrong anywhere is refused whole, in one line that names the file, the place in it and
the value found there. Nothing here runs.
"""

from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from libs.common.errors import SettingError
from libs.common.messages import Bytes, DeviceSpec, ModelSpec, Name, Positive

# A node's name is a part of devices' (`node/gpu`) and replicas' (`model@node:0+1`).
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="forbid")


class DeviceType(_Part):
    """One kind of GPU."""

    memory_bytes: Annotated[int, Field(gt=0, lt=1 << 53)]
    price_usd_per_hour: Annotated[float, Field(ge=0)] = 0.0


class NodeSpec(_Part):
    """`count` equal machines, named `name-0`, `name-1` and so on."""

    name: NodeName
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    device_type: Name
    gpus: Annotated[int, Field(ge=1, le=64)]
    host_memory_bytes: Bytes = 0
    load_bytes_per_s: Positive  # from its disk, shared by the loads that run at once
    host_bytes_per_s: Positive = 25e9  # between host memory and GPUs; a PCIe 4 link of 16 lanes
    start_s: Annotated[float, Field(ge=0)] = 0.0  # paid by the first load; 0: it runs already

    @property
    def names(self) -> list[str]:
        """The names of the machines."""
        return [f"{self.name}-{i}" for i in range(self.count)]


class TrainingSpec(_Part):
    """A job of the backlog: steps that any GPU with room may take, or any gang on a node."""

    name: Name
    gpus: Annotated[int, Field(ge=1, le=64)] = 1  # of one node, which step together
    memory_bytes: Bytes  # on each of its GPUs
    step_ms: dict[Name, Positive] = Field(min_length=1)  # by device type
    steps: Annotated[int, Field(ge=0)]
    checkpoint_s: Annotated[float, Field(ge=0)] = 0.0  # before its memory can be given back
    restore_s: Annotated[float, Field(ge=0)] = 0.0  # before its next step elsewhere
    # A failure costs the steps since the last checkpoint. 0: there is one only when it must leave.
    checkpoint_every_s: Annotated[float, Field(ge=0)] = 0.0


class FleetSpec(_Part):
    """`fleet.yaml`."""

    device_types: dict[Name, DeviceType] = Field(min_length=1)
    nodes: tuple[NodeSpec, ...] = Field(min_length=1)
    training: tuple[TrainingSpec, ...] = ()

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        used = [node.device_type for node in self.nodes]
        used += [device_type for job in self.training for device_type in job.step_ms]
        for device_type in used:
            if device_type not in self.device_types:
                raise ValueError(f"device type {device_type!r} is not among device_types")
        for job in self.training:
            largest = max((n.gpus for n in self.nodes if n.device_type in job.step_ms), default=0)
            if job.gpus > max(1, largest):
                raise ValueError(
                    f"training job {job.name!r} wants {job.gpus} GPUs of one node; the largest "
                    f"with a step_ms for its type has {largest}"
                )
        _refuse_repeats("node", [name for node in self.nodes for name in node.names])
        _refuse_repeats("training job", [job.name for job in self.training])
        return self

    def devices(self) -> list[DeviceSpec]:
        """Return one `registry.devices` record a GPU, in the order of the file."""
        return [
            DeviceSpec(
                device=f"{name}/{gpu}",
                node=name,
                gpu=gpu,
                device_type=node.device_type,
                memory_bytes=self.device_types[node.device_type].memory_bytes,
                price_usd_per_hour=self.device_types[node.device_type].price_usd_per_hour,
                load_bytes_per_s=node.load_bytes_per_s,
                start_s=node.start_s,
            )
            for node in self.nodes
            for name in node.names
            for gpu in range(node.gpus)
        ]


class _Models(_Part):
    models: tuple[ModelSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _refuse_repeats("model", [model.name for model in self.models])
        return self


def read_fleet(path: Path) -> FleetSpec:
    """Read a `fleet.yaml`.

    Raises:
        SettingError: absent, not YAML, an unknown key or a bad value; one line that says where.
    """
    return read_yaml(path, FleetSpec)


def read_models(path: Path) -> tuple[ModelSpec, ...]:
    """Read a `models.yaml`, in its order.

    Raises:
        SettingError: as of `read_fleet`. An unknown key is refused too, though the bus ignores it:
            in a file that a person writes, it is a misspelling.
    """
    return read_yaml(path, _Models).models


B = TypeVar("B", bound=BaseModel)


def read_yaml(path: Path, kind: type[B]) -> B:
    """Read a file that a person writes, in which an unknown key is a misspelling.

    Raises:
        SettingError: absent, not YAML, an unknown key or a bad value; one line that says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return kind.model_validate(yaml.safe_load(text), extra="forbid")
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        # A relation between fields is told by its own words; the part it concerns is no value.
        value = "" if fault["type"] == "value_error" else f" (got {repr(fault['input'])[:80]})"
        where = f"{path}:{_line_of(text, fault['loc'])}"
        raise SettingError(f"{where}: {place or 'the file'}: {fault['msg']}{value}") from error


def _line_of(text: str, place: tuple[int | str, ...]) -> int:
    """Return the line of a YAML text on which what stands at `place` begins, or what holds it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in place:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
    return int(line)


def _refuse_repeats(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} {name!r} stands there twice")
