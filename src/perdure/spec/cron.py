"""Dates of a schedule as people write them: five fields of cron, checked before they reach Temporal."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "day of week": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_SHORT = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")


def wrong_cron(text: str) -> str | None:
    """What is wrong with *text* as a cron expression (minute, hour, day of month, month, day of week); None if nothing is."""
    if text in _SHORT:
        return None
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return f"has {len(fields)} fields, not 5: minute, hour, day of month, month, day of week"
    for field, (name, least, most) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            if (problem := _wrong_part(part.lower(), name, least, most)) is not None:
                return problem
    return None


def _wrong_part(part: str, name: str, least: int, most: int) -> str | None:
    body, slash, step = part.partition("/")
    if slash and (not step.isascii() or not step.isdigit() or int(step) < 1):
        return f"the {name} has a step {step!r}, which is no whole number above 0"
    if body == "*":
        return None
    ends = [_number(end, name, least) for end in body.split("-")]
    if len(ends) > 2 or None in ends:
        return f"the {name} {part!r} is neither *, a number, a range such as 1-5, nor a step such as */15"
    numbers = [end for end in ends if end is not None]
    if any(not least <= end <= most for end in numbers):
        return f"the {name} {part!r} is not from {least} to {most}"
    return f"the {name} {part!r} ends before it begins" if numbers != sorted(numbers) else None


def _number(text: str, name: str, least: int) -> int | None:
    names = _NAMES.get(name, ())
    if text in names:
        return names.index(text) + least
    return int(text) if re.fullmatch(r"[0-9]{1,2}", text) else None


def wrong_zone(name: str) -> str | None:
    """What is wrong with *name* as a time zone; None if nothing is."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"there is no time zone {name!r}; write one such as UTC or Europe/Berlin"
    return None
