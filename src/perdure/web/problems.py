"""Every refusal as a problem document (RFC 9457). Its ``type`` is the stable name of the error, explained in ``docs/errors.md``."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from perdure.errors import Conflict, InvalidInput, NotFound, PerdureError, Transient, UserCodeError

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
_log = logging.getLogger("perdure.web")


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


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a request is refused with, whatever raised it."""

    error: PerdureError
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()

    @property
    def title(self) -> str:
        """The error's kind in words."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self.error).__name__).capitalize()

    def document(self) -> Response:
        """The problem document."""
        problem = Problem(
            type=type(self.error).__name__,
            title=self.title,
            status=self.status,
            detail=self.error.problem,
            field=self.error.field,
            remedy=self.error.remedy,
            errors=list(self.mistakes) or None,
        )
        # ascii: a text that came with half a surrogate pair cannot be written otherwise
        content = json.dumps(problem.model_dump(exclude_none=True), ensure_ascii=True)
        return Response(content, status_code=self.status, headers=self.all_headers, media_type=MEDIA)

    @property
    def all_headers(self) -> dict[str, str]:
        """Its headers, with the time to wait where something is away."""
        return {**({"Retry-After": RETRY_SECONDS} if self.status == 503 else {}), **self.headers}


EXPECTED = (PerdureError, Refused, RequestValidationError, HTTPException)
"""What `refusal` can tell."""


def _logged(error: PerdureError) -> str:
    """What a log may keep of it: an exception of an owner's code may repeat the rows, which its caller alone is told."""
    if not isinstance(error, UserCodeError):
        return error.problem
    causes = [type(error).__name__]
    cause = error.__cause__
    while cause is not None:
        causes.append(type(cause).__name__)
        cause = cause.__cause__
    return " from ".join(causes)


def refusal(request: Request, error: Exception) -> Refusal:
    """What to answer for one of the `EXPECTED` errors."""
    match error:
        case PerdureError():
            status = status_of(error)
            if status >= 500:
                _log.warning("a request failed", extra={"path": request.url.path, "error": type(error).__name__, "detail": _logged(error)})
            return Refusal(error=error, status=status)
        case Refused():
            return Refusal(error=error.error, status=error.status, headers=error.headers)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return Refusal(error=_foreign(error), status=error.status_code, headers=error.headers or {})
        case _:
            raise error


def _invalid(error: RequestValidationError) -> Refusal:
    found = [(".".join(str(part) for part in each["loc"][1:]) or str(each["loc"][0]), each) for each in error.errors()]
    mistakes = [Mistake(field=path, message=each["msg"].removeprefix("Value error, ")) for path, each in found]
    status = 400 if any(each["type"] == "json_invalid" for _, each in found) else 422
    first = InvalidInput(mistakes[0].message, field=mistakes[0].field, remedy="/openapi.json says what this route takes")
    return Refusal(error=first, status=status, mistakes=mistakes)


def install(app: FastAPI, told: Callable[[Request, int], object] = lambda request, status: None) -> None:
    """Have every error of *app* answered as a problem document; *told* hears of each, with its status."""

    async def known(request: Request, error: Exception) -> Response:
        refused = refusal(request, error)
        told(request, refused.status)
        return refused.document()

    for kind in EXPECTED:
        app.add_exception_handler(kind, known)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        told(request, 500)
        _log.error("a defect", exc_info=error, extra={"path": request.url.path})
        content = {
            "type": "Defect",
            "title": "Defect",
            "status": 500,
            "detail": "this is a defect of Perdure; the process's log has the cause",
        }
        return Response(json.dumps(content), status_code=500, media_type=MEDIA)


def _foreign(error: HTTPException) -> PerdureError:
    """What the web framework refused by itself."""
    if error.status_code == 404:
        return NotFound("there is no such route", remedy="/openapi.json lists all routes")
    if error.status_code == 405:
        return Conflict("this route does not take this method", remedy="/openapi.json says what it takes")
    return InvalidInput(str(error.detail), field="body", remedy="/openapi.json says what this route takes")
