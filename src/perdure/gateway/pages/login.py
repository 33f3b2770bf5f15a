"""Signing in by a one-time link, and out. Opening the link shows a button: a program that looks at links first does not use it up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from perdure.errors import AccessDenied
from perdure.gateway.pages.shell import page, pages
from perdure.gateway.pages.visitors import COOKIE, Anybody
from perdure.gateway.parts import Shared
from perdure.metadata.repository.access import sha256

router = pages()
_HOMES = {"label": "/label", "campaign:read": "/campaigns", "promote:approve": "/approvals", "model:read": "/models"}


def home_of(scopes: frozenset[str]) -> str:
    """Where somebody with these scopes begins."""
    return next((path for scope, path in _HOMES.items() if scope in scopes or "admin" in scopes), "/label")


@router.get("/")
async def start(visitor: Anybody) -> Response:
    """The page on which this visitor begins."""
    return RedirectResponse(home_of(visitor.scopes), 303)


@router.get("/login")
async def look(shared: Shared, link: Annotated[str, Query(max_length=200)] = "") -> Response:
    """A button that signs in, or why this link does not."""
    found = await shared.call(shared.sessions.link, sha256(link)) if link else None
    return page("login.html", 200 if found else 410 if link else 200, link=link, found=found)


@router.post("/login")
async def sign_in(request: Request, shared: Shared, link: Annotated[str, Form(max_length=200)]) -> Response:
    """Use the link: the browser has a session from now on."""
    # the link is the proof, but somebody else's page must not sign a browser in under a name of its choice
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AccessDenied("this form is not from a page of Perdure", field="link", remedy="open the link itself")
    found, cookie = await shared.call(shared.sessions.redeem, sha256(link))
    response = RedirectResponse(home_of(frozenset(found.key.scopes)), 303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=max(1, int((found.session_until - datetime.now(UTC)).total_seconds())),
        httponly=True,
        samesite="lax",
        secure="https" in (request.url.scheme, urlsplit(shared.settings.gateway.url or "").scheme),  # not every proxy says how it was asked
    )
    return response


@router.post("/logout")
async def sign_out(request: Request, visitor: Anybody, shared: Shared) -> Response:
    """End the session, here and for every process that knows it."""
    cookie = request.cookies[COOKIE]
    await shared.call(shared.sessions.end, sha256(cookie))
    shared.cookies.forget(cookie)
    response = page("signed_out.html")
    response.delete_cookie(COOKIE)
    return response
