"""`.env.example`: every setting of every service, its default, range and meaning, from the code."""

import importlib
import json
import re
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from libs.common.settings import Section, Settings

ROOT = Path(__file__).parents[1]
SERVICES = ROOT / "services"
COMPOSE = (ROOT / "compose.yaml", ROOT / "deploy" / "compose.brokers.yaml")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):-([^${}]*)\}")
HEAD = """\
# Every setting of Plimsoll, at its default. Copy to .env and uncomment what you change.
# Made by `make env` from the settings classes; a test keeps the two alike.
"""


def env_example() -> str:
    """Return the file's text: a block a section, a comment and a line a setting."""
    seen: dict[str, Section] = {}
    for kind in every_kind():
        for name, field in kind.model_fields.items():
            if isinstance(field.default, Section):
                seen.setdefault(name, field.default)
    instance = Settings.model_fields["instance"]
    blocks = [f"# {instance.description}\n# PLIMSOLL_INSTANCE=\n"]
    shared = ("kafka", "telemetry")
    for name in (*shared, *sorted(seen.keys() - set(shared))):
        blocks.append(_block(name, seen[name]))
    return HEAD + "\n" + "\n".join([*blocks, compose_variables()])


def every_kind() -> list[type[Settings]]:
    """Return the settings class of every service."""
    kinds = []
    for path in sorted(SERVICES.glob("*/settings.py")):
        module = importlib.import_module(f"services.{path.parent.name}.settings")
        kinds += [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Settings) and kind is not Settings
        ]
    return kinds


def compose_variables() -> str:
    """Return the block of what only the compose stack reads, from the file itself."""
    lines = ["# --- of compose.yaml alone: ports on 127.0.0.1, a password, your own traces"]
    said: dict[str, str] = {}
    for path in COMPOSE:
        for name, default in VARIABLE.findall(path.read_text()):
            if not name.startswith("PLIMSOLL_"):
                said.setdefault(name, default)
    lines += [f"# {name}={default}" for name, default in said.items()]
    return "\n".join(lines) + "\n"


def _block(name: str, section: Section) -> str:
    doc = (type(section).__doc__ or "").partition("\n")[0]
    lines = [f"# --- {name}: {doc}"]
    for field, info in type(section).model_fields.items():
        value = getattr(section, field)
        shown = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"# {info.description}{_range(info)}")
        lines.append(f"# PLIMSOLL_{name.upper()}__{field.upper()}={shown}")
    return "\n".join(lines) + "\n"


def _range(info: FieldInfo) -> str:
    bounds = []
    for limit in info.metadata:
        for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
            if isinstance(limit, kind):
                bounds.append(f"{sign} {getattr(limit, kind.__name__.lower()):g}")
    return f" ({', '.join(bounds)})" if bounds else ""
