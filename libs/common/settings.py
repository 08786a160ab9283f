"""Settings that all services share, read from `PLIMSOLL_*` and checked before anything starts.

A service adds its own section in `services/<name>/settings.py`. The core never sees these: it gets
a `Policy`. Nothing else in the project reads the environment.
"""

import difflib
import json
import os
import re
import socket
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from libs.common.errors import SettingError

PREFIX = "PLIMSOLL_"


class Section(BaseModel):
    """A group of settings: frozen, and a name that nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSection(Section):
    """How to reach the bus. The session decides how soon a dead leader or reader is replaced."""

    bootstrap_servers: str = Field("localhost:9092", description="host:port, comma between several")
    topic_prefix: str = Field("", description="before every topic and group, on shared clusters")
    session_timeout_ms: Annotated[int, Field(ge=500, le=60_000)] = Field(
        1000, description="silence after which a member of a group counts as dead"
    )
    request_timeout_ms: Annotated[int, Field(ge=1000, le=300_000)] = Field(
        10_000, description="before one request to a broker counts as failed"
    )
    start_timeout_s: Annotated[float, Field(gt=0)] = Field(
        120.0, description="how long a start waits for the broker and for its topics"
    )


class RedisSection(Section):
    """Where the newest routing table and forecasts are kept for quick readers."""

    url: str = Field("", description="redis://[user:password@]host[:port][/number]; empty: none")

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)  # which, like .port, says what it cannot read by a ValueError
        number = parts.path.removeprefix("/")
        address = parts.hostname and (parts.port != 0) and (not number or number.isdecimal())
        network = parts.scheme in ("redis", "rediss") and address and not parts.query
        if url and not network and not (parts.scheme == "unix" and parts.path):
            raise ValueError("redis://[user:password@]host[:port][/number] wanted, or rediss, unix")
        return url


class TelemetrySection(Section):
    """What a service tells of itself."""

    host: str = Field("127.0.0.1", description="address of /metrics, /healthz and /readyz")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of the same; 0 takes a free one and prints it"
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="of our own lines; those of chatty libraries start at WARNING",
    )
    stuck_after_s: Annotated[float, Field(ge=1)] = Field(
        20.0, description="a service that could work and does not for so long ends itself"
    )


class Settings(BaseSettings):
    """The sections of every service. Env: `PLIMSOLL_<SECTION>__<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
    )

    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="name of this instance, in logs, events and client ids; default host and pid",
    )
    kafka: KafkaSection = KafkaSection()
    telemetry: TelemetrySection = TelemetrySection()


S = TypeVar("S", bound=Settings)


def load(kind: type[S]) -> S:
    """Read the settings of one service from the environment. An empty value is none.

    Raises:
        SettingError: names each variable that is wrong, its value and what it should be.
    """
    try:
        return kind()
    except ValidationError as error:
        raise SettingError("; ".join(map(_fault, error.errors(include_url=False)))) from error
    except SettingsError as error:  # a value that should be JSON, and is not; it says which section
        names = [name for name in os.environ if name.startswith(PREFIX) and not _is_json(name)]
        said = [f"{name}={os.environ[name]!r}" for name in names if _section(name) in str(error)]
        found = without_password("; ".join(said) or str(error))
        raise SettingError(f"{found}: not JSON, as it should be") from error


def check(kinds: Iterable[type[Settings]]) -> None:
    """Read the settings of several services, and look for variables that belong to none.

    Raises:
        SettingError: a line for each variable that is wrong, or that nobody knows.
    """
    known = {PREFIX + "INSTANCE"}
    faults: dict[str, None] = {}  # shared sections fail in each service, and are told once
    for kind in kinds:
        for name, field in kind.model_fields.items():
            if isinstance(field.default, Section):
                fields = type(field.default).model_fields
                known |= {f"{PREFIX}{name}__{field}".upper() for field in fields}
        try:
            load(kind)
        except SettingError as error:
            faults |= dict.fromkeys(str(error).split("; "))
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or any(f"{name}__".startswith(f"{k}__") for k in known):
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        # A wrong name within a known section is told by that section already.
        if not any(fault.startswith(f"{name}=") for fault in faults):
            faults[f"{name}: there is no such setting{hint}"] = None
    if faults:
        raise SettingError("\n".join(faults))


def without_password(text: str) -> str:
    """Return a text that people will see, with *** for the password of each URL in it."""
    masked = re.sub(r"(://[^:/@\s]*:)\S*@", r"\1***@", text)
    return re.sub(r"(password=)[^&\s'\"]*", r"\1***", masked)


def _fault(fault: Any) -> str:
    variable = PREFIX + "__".join(str(part).upper() for part in fault["loc"])
    return f"{variable}={without_password(repr(fault['input']))}: {fault['msg']}"


def _section(variable: str) -> str:
    return f'"{variable.removeprefix(PREFIX).partition("__")[0].lower()}"'


def _is_json(variable: str) -> bool:
    try:
        json.loads(os.environ[variable])
    except ValueError:
        return False
    return True
