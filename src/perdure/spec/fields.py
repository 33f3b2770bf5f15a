"""The types of single fields of the specification, each with the words for what does not fit it."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from perdure.spec.mistakes import show

CODE_REFERENCE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _duration(value: object) -> timedelta:
    """``90s``, ``10m``, ``24h``, ``14d``, or seconds as a number."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)):
        seconds = float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"must be a duration such as 90s, 10m, 24h or 14d, not {show(value)}")
    if not 0 <= seconds <= 3_650 * 86_400:  # nan fails here too
        raise ValueError(f"must be a duration from 0s to 3650d, not {show(value)}")
    return timedelta(seconds=seconds)


def _as_text(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:f}s"


def _plain(value: Any, where: str = "") -> Any:
    """*value*, if it can be written as JSON and be read back as the same."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where or 'a value'} must be a finite number, not {value}")
    if isinstance(value, dict):
        return {str(key): _plain(item, f"`{key}`") for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, where) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{where or 'a value'} must be plain text, number, true, false, list or mapping, not {type(value).__name__}")


CODE_FORM = "package.module:attribute, such as moderation.steps:Features"
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration, json_schema_input_type=Annotated[str, Field(pattern=r"^\d+(\.\d+)?[smhd]$")] | float),
    PlainSerializer(_as_text, return_type=str),
]
CodeReference = Annotated[str, Field(pattern=CODE_REFERENCE, json_schema_extra={"x-form": CODE_FORM})]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        json_schema_extra={"x-form": "lowercase letters, digits, - and _, beginning with a letter or digit, at most 63 characters"},
    ),
]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]
Params = Annotated[dict[str, Any], AfterValidator(_plain)]


def duration(default: str, description: str) -> Any:
    """A field that holds a `Duration`; its default is shown to editors as people write it."""
    return Field(_duration(default), description=description, examples=[default], json_schema_extra={"default": default})
