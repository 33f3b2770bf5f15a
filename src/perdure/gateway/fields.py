"""Kinds of values that come from outside: what of them rows can hold, and names that cannot be confused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StrictFloat, StrictInt, StrictStr

from perdure.labeling.acceptance import TOMBSTONE


def _no_tombstone(revision: str) -> str:
    if revision == TOMBSTONE:
        raise ValueError(f"{TOMBSTONE!r} names no revision: say so by `deleted`")
    return revision


def _in_reach(at: datetime) -> datetime:
    if not 1970 <= at.year <= 9000:  # in another zone, those at either end are no times
        raise ValueError("the year is not between 1970 and 9000")
    return at


Text = Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]+$")]
Value = StrictStr | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_reach)]
Milliseconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
# without a slash: with it, two answers of different keys could get one id
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:+-]{0,64}$"), AfterValidator(_no_tombstone)]
