"""Kinds of values that come from outside, whoever reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field


def _in_reach(at: datetime) -> datetime:
    if not 1970 <= at.year <= 9000:  # in another zone, those at either end are no times
        raise ValueError("the year is not between 1970 and 9000")
    return at


Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]
Moment = Annotated[AwareDatetime, AfterValidator(_in_reach)]
