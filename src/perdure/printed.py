"""Errors that a job could only print, as S3, which is to hold them, refused it or did not answer."""

from __future__ import annotations

import json

from perdure.errors import PerdureError, from_dict

MARK = "perdure-error "


def error_line(error: PerdureError) -> str:
    """*error* as one line of a job's output."""
    return MARK + json.dumps(error.as_dict())


def printed_error(logs: str) -> PerdureError | None:
    """The last error that a job's output tells in this form."""
    lines = [line for line in logs.splitlines() if line.startswith(MARK)]
    try:
        return from_dict(json.loads(lines[-1].removeprefix(MARK))) if lines else None
    except (ValueError, AttributeError):
        return None  # the owner's code prints what it likes
