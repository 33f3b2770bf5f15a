"""``python -m tests.docs.settings``: write the table of settings into the operating guide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from perdure.config import Settings

GUIDE = Path(__file__).parents[2] / "docs" / "operating.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def table() -> str:
    """One line a setting, in the order of the code."""
    return "\n".join(["| variable | default | |", "|---|---|---|", *_lines(Settings, "PERDURE_")]) + "\n"


def _lines(group: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _lines(field.annotation, f"{prefix}{name}__".upper())
        else:
            yield f"| `{prefix}{name.upper()}` | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None:
        return ""
    text = str(value).replace("'", '"') if isinstance(value, list) else f"{value}"
    return f"`{text}`"


def filled(text: str) -> str:
    """*text* with the current table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    GUIDE.write_text(filled(GUIDE.read_text()))
