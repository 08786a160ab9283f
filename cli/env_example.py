"""`.env.example`: every setting of every service, its default, range and meaning, from the code."""

import importlib
import json
from pathlib import Path

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from libs.common.settings import Section, Settings

SERVICES = Path(__file__).parents[1] / "services"
HEAD = """\
# Every setting of Plimsoll, at its default. Copy to .env and uncomment what you change.
# Made by `make env` from the settings classes; a test keeps the two alike.
"""


def env_example() -> str:
    """Return the file's text: a block a section, a comment and a line a setting."""
    seen: dict[str, Section] = {}
    for path in sorted(SERVICES.glob("*/settings.py")):
        module = importlib.import_module(f"services.{path.parent.name}.settings")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Settings):
                for name, field in kind.model_fields.items():
                    if isinstance(field.default, Section):
                        seen.setdefault(name, field.default)
    instance = Settings.model_fields["instance"]
    blocks = [f"# {instance.description}\n# PLIMSOLL_INSTANCE=\n"]
    shared = ("kafka", "telemetry")
    for name in (*shared, *sorted(seen.keys() - set(shared))):
        blocks.append(_block(name, seen[name]))
    return HEAD + "\n" + "\n".join(blocks)


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
