"""Who calls: a bearer key, looked up by its digest and remembered for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from perdure.errors import AccessDenied, Transient
from perdure.metadata.repository.access import Key, sha256
from perdure.web.problems import Refused

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
    """The keys that callers show. A label does not pay a query: what was found stays known for `FRESH_SECONDS`, what was not, too.

    While Postgres is away, a key that was found before is believed for *away* seconds.
    """

    def __init__(self, lookup: Callable[[str], Awaitable[Key | None]], seconds: float = FRESH_SECONDS, *, away: float = 0.0) -> None:
        self._lookup, self._seconds, self._away = lookup, seconds, away
        self._known: dict[str, tuple[float, Key | None]] = {}
        self._looks: dict[str, asyncio.Task[Key | None]] = {}  # that are on their way: one for all who call meanwhile

    def forget(self, secret: str) -> None:
        """Look this one up again."""
        self._known.pop(sha256(secret), None)

    async def caller(self, secret: str) -> Caller | None:
        """Who holds this key; None where it opens nothing."""
        digest, now = sha256(secret), time.monotonic()
        at, key = self._known.get(digest, (0.0, None))
        if not at or now - at > self._seconds:
            try:
                key = await self._look(digest)
            except Transient:
                if key is None or now - at > self._away:
                    raise
            else:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[digest] = (now, key)
        if key is None or not key.opens(datetime.now(UTC)):
            return None
        return Caller(principal=key.principal, scopes=frozenset(key.scopes))

    async def _look(self, digest: str) -> Key | None:
        look = self._looks.get(digest)
        if look is None:
            look = self._looks[digest] = asyncio.ensure_future(self._lookup(digest))
            look.add_done_callback(lambda _: self._looks.pop(digest))
        return await asyncio.shield(look)  # a caller who goes does not end it for the others


async def bearer(keys: Keys, authorization: str, scope: str) -> Caller:
    """The caller whose header *authorization* holds a key with this *scope*. Raises Refused (401) without one, AccessDenied."""
    kind, _, secret = authorization.partition(" ")
    caller = await keys.caller(secret) if kind.lower() == "bearer" and secret else None
    if caller is None:
        raise Refused(
            401,
            AccessDenied("no valid key", field="Authorization", remedy="send `Authorization: Bearer KEY`; `perdure keys create` makes one"),
            {"WWW-Authenticate": "Bearer"},
        )
    if not caller.may(scope):
        raise AccessDenied(f"this key may not: {scope}", field="Authorization", remedy=f"use a key with the scope {scope}")
    return caller
