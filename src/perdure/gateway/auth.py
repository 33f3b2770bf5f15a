"""Who calls: a bearer key, looked up by its digest and remembered for some seconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from perdure.errors import AccessDenied
from perdure.gateway.problems import Refused
from perdure.metadata.repository.access import Key, sha256

FRESH_SECONDS = 3.0  # so long a revoked key may still open
_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who sent a request, as the key proves it."""

    principal: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether this is allowed to them."""
        return scope in self.scopes or "admin" in self.scopes


class Keys:
    """The keys that callers show. A label does not pay a query: what was found stays known for `FRESH_SECONDS`, what was not, too."""

    def __init__(self, lookup: Callable[[str], Awaitable[Key | None]], seconds: float = FRESH_SECONDS) -> None:
        self._lookup, self._seconds = lookup, seconds
        self._known: dict[str, tuple[float, Key | None]] = {}

    def forget(self, secret: str) -> None:
        """Look this one up again."""
        self._known.pop(sha256(secret), None)

    async def caller(self, secret: str) -> Caller | None:
        """Who holds this key; None where it opens nothing."""
        digest, now = sha256(secret), time.monotonic()
        at, key = self._known.get(digest, (0.0, None))
        if not at or now - at > self._seconds:
            key = await self._lookup(digest)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = (now, key)
        if key is None or not key.opens(datetime.now(UTC)):
            return None
        return Caller(principal=key.principal, scopes=frozenset(key.scopes))


class _With(HTTPBearer):
    """The caller, who must have one scope: description and check in one, as each level of dependencies costs every request."""

    def __init__(self, scope: str) -> None:
        super().__init__(scheme_name="key", description="A key made by `perdure keys create`.", auto_error=False)
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        keys: Keys = request.app.state.parts.keys
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        caller = await keys.caller(secret) if kind.lower() == "bearer" and secret else None
        if caller is None:
            raise Refused(
                401,
                AccessDenied(
                    "no valid key", field="Authorization", remedy="send `Authorization: Bearer KEY`; `perdure keys create` makes one"
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        if not caller.may(self._scope):
            raise AccessDenied(f"this key may not: {self._scope}", field="Authorization", remedy=f"use a key with the scope {self._scope}")
        return caller


Reader = Annotated[Caller, Depends(_With("campaign:read"))]
Writer = Annotated[Caller, Depends(_With("campaign:write"))]
Worker = Annotated[Caller, Depends(_With("label"))]
Judge = Annotated[Caller, Depends(_With("adjudicate"))]
Approver = Annotated[Caller, Depends(_With("promote:approve"))]
Teller = Annotated[Caller, Depends(_With("events:write"))]
ModelReader = Annotated[Caller, Depends(_With("model:read"))]
Admin = Annotated[Caller, Depends(_With("admin"))]
"""A route's parameter: the caller, who must have this scope. 401 without a valid key, 403 without the scope."""
