"""How much of a body is read, and which kinds of body."""

from __future__ import annotations

import re

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.errors import InvalidInput
from perdure.web.problems import Refused


class BodyLimit:
    """Refuses bodies above *most* bytes with 413, also where no length was announced.

    Of a path that *streamed* describes as a whole nothing is counted: its route bounds what it reads.
    """

    def __init__(self, app: ASGIApp, most: int, streamed: re.Pattern[str] | None = None) -> None:
        self._app, self._most, self._streamed = app, most, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what is received."""
        if scope["type"] != "http" or (self._streamed and self._streamed.fullmatch(scope["path"])):
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        read, most = 0, self._most

        async def counted() -> Message:
            nonlocal read
            if announced.isdigit() and int(announced) > most:
                raise too_large(most)
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise too_large(most)
            return message

        await self._app(scope, counted, send)


def too_large(most: int, what: str = "a body") -> HTTPException:
    """413; an `HTTPException`, as the framework takes any other one while it reads for a body that does not parse."""
    return HTTPException(413, f"{what} may have {most:,} bytes", headers={"Connection": "close"})


def require_media(request: Request, *wanted: str) -> None:
    """Raises 415 for a body of another kind."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in wanted:
        raise Refused(
            415,
            InvalidInput(
                f"a body of type {media or 'unknown'} is not taken here", field="Content-Type", remedy=f"send {' or '.join(wanted)}"
            ),
        )
