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
    route, fingerprint = f"{request.method} {request.url.path}", digest(body.model_dump(mode="json"))
    answer, new = await parts.call(parts.access.once, caller.principal, key, route, fingerprint, work)
    if (answer.route, answer.request_sha256) != (route, fingerprint):
        raise Refused(
            422, Conflict("this key was used for another request", field="Idempotency-Key", remedy="use a new key for a new request")
        )
    return JSONResponse(answer.response, answer.status, headers={} if new else {"Idempotency-Replayed": "true"})
