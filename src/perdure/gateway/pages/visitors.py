"""Who looks at a page: a browser with the cookie of a session. Whatever changes something carries a token that only its pages know."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from perdure.errors import AccessDenied
from perdure.gateway.auth import Caller
from perdure.gateway.parts import Parts
from perdure.gateway.problems import Refused
from perdure.metadata.repository.access import sha256

COOKIE = "perdure_session"
READS = ("GET", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Visitor(Caller):
    """A caller who is signed in. ``token`` goes into every form: a page of somebody else cannot know it."""

    token: str


def token_of(cookie: str) -> str:
    """The token of a session. It is made of the cookie, which no script and no other site can read."""
    return sha256(f"form {cookie}")


async def visitor(request: Request) -> Visitor:
    """Who is signed in. Raises Refused (401) where nobody is, AccessDenied for a change without the token."""
    parts: Parts = request.app.state.parts
    cookie = request.cookies.get(COOKIE, "")
    caller = await parts.cookies.caller(cookie) if cookie else None
    if caller is None:
        raise Refused(401, AccessDenied("you are not signed in, or your session is over", field="cookie", remedy="open a new link"))
    token = token_of(cookie)
    if request.method not in READS:
        sent = (await request.form()).get("token")
        if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), token.encode()):
            raise AccessDenied(
                "this form is not from a page of your session", field="token", remedy="load the page anew, and send it again"
            )
    return Visitor(principal=caller.principal, scopes=caller.scopes, token=token)


Anybody = Annotated[Visitor, Depends(visitor)]
"""A route's parameter: whoever is signed in."""


class _With:
    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, visitor: Anybody) -> Visitor:
        if not visitor.may(self._scope):
            raise AccessDenied(
                f"{visitor.principal} may not: {self._scope}", field="scope", remedy=f"ask for a link of a key with the scope {self._scope}"
            )
        return visitor


Labeling = Annotated[Visitor, Depends(_With("label"))]
ModelReading = Annotated[Visitor, Depends(_With("model:read"))]
Reading = Annotated[Visitor, Depends(_With("campaign:read"))]
Commanding = Annotated[Visitor, Depends(_With("campaign:write"))]
Judging = Annotated[Visitor, Depends(_With("adjudicate"))]
Approving = Annotated[Visitor, Depends(_With("promote:approve"))]
