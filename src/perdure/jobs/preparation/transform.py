"""The owner's transform inside a preparation job: what it raises is a typed error, and what it makes depends on each row alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import polars as pl

from perdure.errors import UserCodeError
from perdure.jobs.context import JobContext
from perdure.messages.common import ArtifactRef, Json
from perdure.predictor import OwnerCodeError, Transform, load_state, numbers

FIELD = "data.transform"
_T = TypeVar("_T")


def owner_transform(job: JobContext, state: Json | None = None) -> Transform:
    """The specification's transform with its fitted *state* (an artifact). Raises UserCodeImport, UserCodeError."""
    reference = job.spec.data.transform
    if reference is None:
        return Transform(None)
    loaded = load_state(job.objects.get(ArtifactRef.from_json(state))) if state else None
    return called(job, Transform, job.user(reference), loaded)


def called(job: JobContext, function: Callable[..., _T], *args: Any) -> _T:
    """``function(*args)``, in which the owner's transform runs. Raises UserCodeError with the owner's lines of the traceback."""

    return owned(job, FIELD, job.spec.data.transform, function, *args)


def owned(job: JobContext, field: str, reference: str | None, function: Callable[..., _T], *args: Any) -> _T:
    """`called` for any of the owner's code, which the specification names *reference* in *field*."""

    def run() -> _T:
        try:
            return function(*args)
        except OwnerCodeError as err:
            told, cause = str(err), err.__cause__
        if cause is not None:  # `job.call` tells the owner's lines
            raise cause
        raise UserCodeError(told, field=field, remedy="mend the code, and apply it again: perdure apply")

    made: _T = job.call(f"{field} ({reference})", run)
    return made


def feature_names(made: pl.DataFrame, spec_columns: set[str]) -> list[str]:
    """The features among a transform's columns: without one, the raw columns that are neither target nor split column."""
    return [name for name in made.columns if name not in spec_columns]


def check_rows_alone(job: JobContext, transform: Transform, frame: pl.DataFrame, made: pl.DataFrame, names: list[str]) -> None:
    """Raises UserCodeError where a row of *frame*, transformed alone, gives other features than in *made*, from all rows together.

    A predictor scores one row as well as many, and must give it the same score.
    """
    for index in sorted({0, frame.height // 2, frame.height - 1}):
        alone = called(job, numbers, called(job, transform.apply, frame.slice(index, 1)), names)
        for name, one, many in zip(names, alone.row(0), made.row(index), strict=True):
            if one != many:
                raise UserCodeError(
                    f"the feature {name!r} of row {index} is {many} among other rows, but {one} alone",
                    field=FIELD,
                    remedy="let apply() treat each row by itself; what needs all rows belongs into fit()",
                )
