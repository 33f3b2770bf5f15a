"""Kinds of values that come from outside: what of them rows can hold, and names that cannot be confused."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictFloat, StrictInt, StrictStr

from perdure.labeling.acceptance import TOMBSTONE
from perdure.labeling.fields import Moment, Name

__all__ = ["Milliseconds", "Moment", "Name", "Revision", "Text", "Value"]


def _no_tombstone(revision: str) -> str:
    if revision == TOMBSTONE:
        raise ValueError(f"{TOMBSTONE!r} names no revision: say so by `deleted`")
    return revision


Text = Annotated[str, Field(max_length=2_000, pattern=r"^[^\x00]*$")]
Value = StrictStr | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
Milliseconds = Annotated[int, Field(ge=0, le=2**31 - 1)]
# without a slash: with it, two answers of different keys could get one id
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:+-]{0,64}$"), AfterValidator(_no_tombstone)]
