"""Routes that are called for every label, at a third of the price."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send


class BusyRoute(APIRoute):
    """A route as FastAPI describes it, called without what FastAPI does anew at every request.

    For functions that answer with a response and take a JSON body, parts of the path, headers, and what a dependency makes of the request
    alone. A request that does not fit goes FastAPI's way, which says what is wrong with it.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        body = self.body_field
        if body is None or body.field_info.annotation is None:
            raise TypeError(f"{path} takes no body")
        self._body, self._read = body.name, TypeAdapter[Any](body.field_info.annotation).validate_json
        self._made: list[tuple[str, Any]] = [(str(each.name), each.call) for each in self.dependant.dependencies]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Errors are those of any route."""
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        said = self._said(request, body) if scope["method"] in (self.methods or ()) else None
        if said is None:
            await super().handle(scope, _again(body), send)
            return
        for name, make in self._made:
            said[name] = await make(request)
        response = await self.endpoint(**said)
        await response(scope, receive, send)

    def _said(self, request: Request, body: bytes) -> dict[str, Any] | None:
        """What the request gives to the function; None where it does not fit."""
        if request.headers.get("content-type") != "application/json":
            return None
        said: dict[str, Any] = {}
        for kind, fields in ((request.path_params, self.dependant.path_params), (request.headers, self.dependant.header_params)):
            for field in fields:
                value = kind.get(field.alias)
                if value is None:
                    said[field.name] = field.get_default()
                    continue
                said[field.name], wrong = field.validate(value)
                if wrong:
                    return None
        try:
            said[self._body] = self._read(body)
        except ValidationError:
            return None
        return said


def _again(body: bytes) -> Receive:
    """A body that was read, for whoever reads it now."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
