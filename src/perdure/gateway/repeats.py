"""``Idempotency-Key``: the same request again is answered the same; another one under the same key is refused.

What a request does to rows and what it is answered are one transaction: a crash at any moment leaves both or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from perdure.errors import Conflict
from perdure.gateway.auth import Caller
from perdure.gateway.parts import Parts
from perdure.gateway.problems import Refused
from perdure.keys import digest
from perdure.metadata.repository.access import Answered

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="The caller's name for this request: sent again, it is answered the same.",
    ),
]


async def once(
    parts: Parts, caller: Caller, key: str | None, request: Request, body: BaseModel, work: Callable[[], tuple[int, Any]]
) -> JSONResponse:
    """The answer of *work* (status and body), or what was answered before under *key*. *work* runs in a thread, and writes rows alone."""
    if key is None:
        status, response = await parts.call(work)
        return JSONResponse(response, status)
    answer, new = await parts.call(parts.access.once, caller.principal, key, *_named(request, body), work)
    return JSONResponse(answer.response, answer.status) if new else _again(answer, request, body)


async def before(parts: Parts, caller: Caller, key: str | None, request: Request, body: BaseModel) -> JSONResponse | None:
    """What was answered under *key* before: for work that is more than one transaction, and changes nothing where it is done twice."""
    answer = await parts.call(parts.access.answered, caller.principal, key) if key else None
    return _again(answer, request, body) if answer else None


def _again(answer: Answered, request: Request, body: BaseModel) -> JSONResponse:
    if (answer.route, answer.request_sha256) != _named(request, body):
        raise Refused(
            422, Conflict("this key was used for another request", field="Idempotency-Key", remedy="use a new key for a new request")
        )
    return JSONResponse(answer.response, answer.status, headers={"Idempotency-Replayed": "true"})


def _named(request: Request, body: BaseModel) -> tuple[str, str]:
    """The route, and the digest of what was sent."""
    return f"{request.method} {request.url.path}", digest(body.model_dump(mode="json"))
