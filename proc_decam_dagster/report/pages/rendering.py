"""From contents to HTML by this folder's templates: all text is escaped, and nothing comes from elsewhere."""

import base64
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_SECRETS = (
    (re.compile(r"(://[^\s:/@]+):[^\s@/]+@"), r"\1:…@"),
    (re.compile(r"(?i)(passw(?:or)?d|secret|token|authorization)(['\"]?\s*[=:]\s*)(bearer\s+|basic\s+)?\S+"), r"\1\2…"),
)  # fmt: skip
"""What a message of a library may hold and a page, which is passed around, must not."""


def render(template: str, **contents: Any) -> str:
    """Return a page."""
    return _environment().get_template(template).render(**contents)


def without_secrets(text: str) -> str:
    """Return a message without the passwords in it."""
    for expression, instead in _SECRETS:
        text = expression.sub(instead, text)
    return text


def data_uri(png: bytes) -> str:
    """Return a picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["without_secrets"] = without_secrets
    return made
