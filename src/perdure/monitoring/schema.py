"""Columns that are missing, new, or of another kind: facts, which need no statistics."""

from __future__ import annotations

from collections.abc import Mapping

_NUMBERS = ("Int", "UInt", "Float", "Decimal")
_TEXTS = ("String", "Null", "Date", "Time")  # times are also told as text


def differences(usual: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What is broken, and what is only new, in columns and types *now* against *usual*, in words.

    A column that is missing, or of another kind (number, text or time), is broken; another width of a number is none.
    """
    broken = [f"column {name} is missing" for name in usual if name not in now]
    broken += [
        f"column {name} holds {now[name]}, not {kind}" for name, kind in usual.items() if name in now and _kind(now[name]) != _kind(kind)
    ]
    return broken, [f"column {name} is new" for name in now if name not in usual]


def _kind(dtype: str) -> str:
    return "number" if dtype.startswith(_NUMBERS) else "text" if dtype.startswith(_TEXTS) else dtype
