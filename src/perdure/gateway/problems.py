"""Every refusal as a problem document (RFC 9457). Its ``type`` is the stable name of the error, explained in ``docs/errors.md``."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from perdure.errors import Conflict, InvalidInput, NotFound, PerdureError, StoreUnavailable, Transient

MEDIA = "application/problem+json"
RETRY_SECONDS = "2"
_STATUS = {
    "InvalidInput": 422,
    "NotFound": 404,
    "Conflict": 409,
    "LeaseLost": 409,
    "VoteRefused": 409,
    "EvidenceChanged": 412,
    "AccessDenied": 403,
    "StorageFull": 503,
    "SchemaTooOld": 503,
    "SchemaTooNew": 503,
}
_log = logging.getLogger("perdure.gateway")


class Mistake(BaseModel):
    """One thing that is wrong with a request, and where."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was refused, and what to do. ``errors`` names every mistake where there are several."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    remedy: str | None = None
    errors: list[Mistake] | None = None


class Refused(Exception):
    """An error with a status of its own; for what an error's class alone does not tell."""

    def __init__(self, status: int, error: PerdureError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.problem)
        self.status, self.error, self.headers = status, error, dict(headers or {})


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for its description. Every route may refuse a body, or be without Postgres."""
    return {status: {"model": Problem, "content": {MEDIA: {}}} for status in sorted({400, 413, 422, 503, *statuses})}


def status_of(error: PerdureError) -> int:
    """The HTTP status of *error*."""
    if isinstance(error, Transient) or (error.field or "").startswith("postgres"):
        return 503
    return _STATUS.get(type(error).__name__, 422 if isinstance(error, InvalidInput) else 500)


def document(
    error: PerdureError, status: int | None = None, headers: Mapping[str, str] | None = None, mistakes: Sequence[Mistake] = ()
) -> Response:
    """*error* as a response."""
    kind, code = type(error).__name__, status or status_of(error)
    problem = Problem(
        type=kind,
        title=re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).capitalize(),
        status=code,
        detail=error.problem,
        field=error.field,
        remedy=error.remedy,
        errors=list(mistakes) or None,
    )
    wait = {"Retry-After": RETRY_SECONDS} if code == 503 else {}
    # ascii: a text that came with half a surrogate pair cannot be written otherwise
    content = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=True)
    return Response(content, status_code=code, headers={**wait, **(headers or {})}, media_type=MEDIA)


def busy() -> StoreUnavailable:
    """More is waiting for Postgres than it takes."""
    return StoreUnavailable("more answers wait to be stored than are stored", remedy="send again in a few seconds")


def install(app: FastAPI) -> None:
    """Have every error of *app* answered as a problem document."""

    @app.exception_handler(PerdureError)
    async def known(request: Request, error: PerdureError) -> Response:
        if status_of(error) >= 500:
            _log.warning("a request failed", extra={"path": request.url.path, "error": type(error).__name__, "detail": error.problem})
        return document(error)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return document(error.error, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [(".".join(str(part) for part in each["loc"][1:]) or str(each["loc"][0]), each) for each in error.errors()]
        mistakes = [Mistake(field=path, message=each["msg"].removeprefix("Value error, ")) for path, each in found]
        first = mistakes[0]
        status = 400 if any(each["type"] == "json_invalid" for _, each in found) else 422
        return document(
            InvalidInput(first.message, field=first.field, remedy="see /docs for what this route takes"), status, mistakes=mistakes
        )

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        return document(_foreign(error), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        _log.error("a defect", exc_info=error, extra={"path": request.url.path})
        content = {
            "type": "Defect",
            "title": "Defect",
            "status": 500,
            "detail": "this is a defect of Perdure; the gateway's log has the cause",
        }
        return Response(json.dumps(content), status_code=500, media_type=MEDIA)


def _foreign(error: HTTPException) -> PerdureError:
    """What the web framework refused by itself."""
    if error.status_code == 404:
        return NotFound("there is no such route", remedy="see /docs for all routes")
    if error.status_code == 405:
        return Conflict("this route does not take this method", remedy="see /docs for what it takes")
    return InvalidInput(str(error.detail), field="body", remedy="see /docs for what this route takes")
