"""What both kinds of routes need of a request: its caller's key, its JSON, its headers, and rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic_core import from_json, to_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from perdure.errors import InvalidInput
from perdure.serving.service import Service
from perdure.web.keys import bearer
from perdure.web.problems import Refused

SCOPE = "predict"
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)")


class Gate(HTTPBearer):
    """A key with the scope `predict`, where the settings want one."""

    def __init__(self) -> None:
        super().__init__(scheme_name="key", description="A key made by `perdure keys create --scope predict`.", auto_error=False)

    async def __call__(self, request: Request) -> None:  # type: ignore[override]
        """Raises Refused (401), AccessDenied."""
        service: Service = request.app.state.service
        if service.settings.serving.keys:
            await bearer(service.keys, request.headers.get("authorization", ""), SCOPE)


class Direct(APIRoute):
    """A route as FastAPI describes it, called without what FastAPI does anew at every request.

    For functions that take parts of the path, texts of the query and the request, which they read themselves, and answer with a response.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        takes = self.dependant
        if takes.header_params or takes.cookie_params or takes.body_params or any(each.dependencies for each in takes.dependencies):
            raise TypeError(f"{path} takes more than parts of the path and texts of the query")
        self._asked = [(each.name, each.alias) for each in takes.query_params]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Errors are those of any route."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # says which ones are
            return
        request = Request(scope, receive)
        for each in self.dependant.dependencies:
            assert each.call is not None
            await each.call(request)
        asked = {name: request.query_params.get(alias) for name, alias in self._asked}
        response = await self.endpoint(**asked, **request.path_params, request=request)
        await response(scope, receive, send)


async def body_of(request: Request, *known: str) -> dict[str, Any]:
    """The body, an object of the *known* fields. Raises Refused (400) for what is no JSON, InvalidInput."""
    try:
        body = from_json(await request.body())  # NaN is read, to say later where it stands
    except ValueError as err:
        raise Refused(400, InvalidInput(f"this is no JSON: {err}", field="body", remedy="send a JSON object")) from None
    except ClientDisconnect:  # nobody hears this
        raise Refused(400, InvalidInput("the body ended before its end", field="body", remedy="send it again")) from None
    if type(body) is not dict:
        raise InvalidInput("the body is a JSON object", field="body", remedy="send an object")
    if unknown := [name for name in body if name not in known]:
        raise InvalidInput(f"unknown field {unknown[0][:100]!r}", field=unknown[0][:100], remedy=f"known are: {', '.join(known)}")
    return body


def unit_of(request: Request, body: dict[str, Any]) -> str | None:
    """Who the prediction is for: the header `X-Perdure-Unit`, or the field ``unit``. Raises InvalidInput."""
    unit = request.headers.get("x-perdure-unit") or body.get("unit")
    if unit is None:
        return None
    if type(unit) not in (str, int) or not 0 < len(str(unit)) <= 200:
        raise InvalidInput(
            "a unit is a text of 1 to 200 characters, or a whole number", field="unit", remedy="send the id of whom it is for"
        )
    return str(unit)


def trace_of(request: Request) -> str:
    """The trace id of `traceparent` (W3C), "" where there is none."""
    found = _TRACE.match(request.headers.get("traceparent", ""))
    return found[1] if found else ""


def bounded(number: int, most: int, field: str) -> int:
    """*number* of rows, where so many may be sent at once. Raises InvalidInput."""
    if not 0 < number <= most:
        raise InvalidInput(f"{number:,} rows", field=field, remedy=f"send 1 to {most:,} rows at once")
    return number


def answered(content: dict[str, Any]) -> Response:
    """*content* as JSON; floats are written so that reading gives the same bits."""
    return Response(to_json(content), media_type="application/json")
