"""``Idempotency-Key``: the same request again is answered the same; another one under the same key is refused.

Commands are idempotent under this key by themselves, as their rows are named by it. What is kept here is the answer: so a crash between
the two costs nothing but doing the command, without effect, again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
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
    parts: Parts, caller: Caller, key: str | None, request: Request, body: BaseModel, work: Callable[[], Awaitable[tuple[int, Any]]]
) -> JSONResponse:
    """The answer of *work* (status and body), or what was answered before under *key*."""
    if key is None:
        status, response = await work()
        return JSONResponse(response, status)
    route, fingerprint = f"{request.method} {request.url.path}", digest(body.model_dump(mode="json"))
    before = await parts.call(parts.access.answered, caller.principal, key)
    if before is not None:
        if (before.route, before.request_sha256) != (route, fingerprint):
            raise Refused(
                422, Conflict("this key was used for another request", field="Idempotency-Key", remedy="use a new key for a new request")
            )
        return JSONResponse(before.response, before.status, headers={"Idempotency-Replayed": "true"})
    status, response = await work()
    answer = Answered(route=route, request_sha256=fingerprint, status=status, response=response)
    await parts.call(parts.access.keep_answer, caller.principal, key, answer)
    return JSONResponse(response, status)
