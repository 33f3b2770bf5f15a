"""Models: what serves, and the life of one model on a time line, as of any instant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response

from perdure.errors import InvalidInput
from perdure.gateway.pages.shell import page, pages
from perdure.gateway.pages.timeline import HEIGHT, WIDTH, timeline
from perdure.gateway.pages.visitors import ModelReading
from perdure.gateway.parts import Shared
from perdure.metadata.queries import list_models, model_history, show_model

router = pages()
ROWS = 20  # of each table
At = Annotated[str, Query(max_length=40)]


@router.get("/models")
async def models(visitor: ModelReading, shared: Shared, at: At = "") -> Response:
    """All models."""
    then = moment(at)
    return page("models.html", visitor=visitor, models=await shared.call(list_models, shared.database, then), at=then)


@router.get("/models/{model}")
async def model(
    model: Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")],
    visitor: ModelReading,
    shared: Shared,
    at: At = "",
) -> Response:
    """Who served when, what drifted, what was decided, what users said."""
    then = moment(at)
    found = await shared.call(show_model, shared.database, model, then)
    history = await shared.call(model_history, shared.database, model, then)
    return page(
        "model.html",
        visitor=visitor,
        model=model,
        versions=found.versions,
        history=history,
        serving={row["version"]: row for row in reversed(history.now)},
        line=timeline(history),
        box=(WIDTH, HEIGHT),
        at=then,
        most=ROWS,
    )


def moment(text: str) -> datetime | None:
    """The time that a form names, in UTC where it names no zone. Raises InvalidInput."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        if not 1970 <= at.year <= 9000:
            raise ValueError
    except (ValueError, OverflowError):
        raise InvalidInput(f"{text!r} is no time", field="at", remedy="write it as 2026-11-22T16:05") from None
    return at
