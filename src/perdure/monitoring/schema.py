"""Columns that are missing, new, or of another kind: facts, which need no statistics."""

from __future__ import annotations

from collections.abc import Mapping

_KINDS = (("Int", "number"), ("UInt", "number"), ("Float", "number"), ("Decimal", "number"), ("Date", "time"), ("Time", "time"))


def differences(usual: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What is broken, and what is only new, in columns and types *now* against *usual*, in words.

    A column that is missing, or of another kind (number, text, time), is broken; another width of a number is none.
    """
    broken = [f"column {name} is missing" for name in usual if name not in now]
    broken += [
        f"column {name} holds {now[name]}, not {kind}" for name, kind in usual.items() if name in now and _kind(now[name]) != _kind(kind)
    ]
    return broken, [f"column {name} is new" for name in now if name not in usual]


def _kind(dtype: str) -> str:
    return next((kind for start, kind in _KINDS if dtype.startswith(start)), "text" if dtype in ("String", "Null") else dtype)
