"""Who calls: a bearer key, looked up by its digest and remembered for some seconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

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


_bearer = HTTPBearer(auto_error=False, description="A key made by `perdure keys create`.")


def _who(scope: str) -> Callable[..., Awaitable[Caller]]:
    async def who(request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
        keys: Keys = request.app.state.parts.keys
        caller = await keys.caller(shown.credentials) if shown else None
        if caller is None:
            raise Refused(
                401,
                AccessDenied(
                    "no valid key", field="Authorization", remedy="send `Authorization: Bearer KEY`; `perdure keys create` makes one"
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        if not caller.may(scope):
            raise AccessDenied(f"this key may not: {scope}", field="Authorization", remedy=f"use a key with the scope {scope}")
        return caller

    return who


Reader = Annotated[Caller, Depends(_who("campaign:read"))]
Writer = Annotated[Caller, Depends(_who("campaign:write"))]
Worker = Annotated[Caller, Depends(_who("label"))]
Judge = Annotated[Caller, Depends(_who("adjudicate"))]
Approver = Annotated[Caller, Depends(_who("promote:approve"))]
Admin = Annotated[Caller, Depends(_who("admin"))]
"""A route's parameter: the caller, who must have this scope. 401 without a valid key, 403 without the scope."""
