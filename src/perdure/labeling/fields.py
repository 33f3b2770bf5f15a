"""Kinds of values that come from outside, whoever reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, Field

from perdure.keys import canonical


def _in_reach(at: datetime) -> datetime:
    if not 1970 <= at.year <= 9000:  # in another zone, those at either end are no times
        raise ValueError("the year is not between 1970 and 9000")
    return at


Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]
Moment = Annotated[AwareDatetime, AfterValidator(_in_reach)]


def answer_bytes(value: Any) -> bytes:
    """The same bytes for the same answer: 12 and 12.0 are one number."""
    return canonical(int(value) if isinstance(value, float) and value.is_integer() else value)
