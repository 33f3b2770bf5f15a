"""Sessions of browsers: links that work once, tokens in forms, headers of pages, and what ends a session."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest_asyncio
from fastapi import FastAPI

from perdure.config import Settings
from perdure.gateway.app import make_app
from perdure.gateway.pages.login import home_of
from perdure.gateway.pages.showing import shown
from perdure.labeling.spec import Campaign
from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, SessionRows
from tests.gateway.world import Senders

Client = httpx.AsyncClient
CROSS = {"sec-fetch-site": "cross-site"}


@pytest_asyncio.fixture
async def visitor(app: FastAPI) -> AsyncIterator[Client]:
    """A browser of its own: it keeps cookies."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with Client(transport=transport, base_url="https://gateway") as opened:
        yield opened


def made(database: Database, *scopes: str, days: float | None = None) -> tuple[AccessRows, UUID, str]:
    """A key's rows, its id, and the secret of a link for it."""
    rows = AccessRows(database)
    until = datetime.now(UTC) + timedelta(days=days) if days else None
    key, _ = rows.create_key("vera", list(scopes) or ["label"], until)
    return rows, key.id, SessionRows(database).make_link("vera", key.id)[1]


async def signed_in(visitor: Client, link: str) -> str:
    """The token of a session."""
    assert (await visitor.post("/login", data={"link": link})).status_code == 303
    page = await visitor.get("/label")
    return re.findall(r'name="token" value="([0-9a-f]{64})"', page.text)[0]


async def test_a_link_works_once_and_looking_does_not_use_it(visitor: Client, database: Database, senders: Senders) -> None:
    _, _, link = made(database)
    for _ in range(3):  # mail scanners, previews
        looked = await visitor.get("/login", params={"link": link})
        assert (looked.status_code, "vera" in looked.text, looked.cookies) == (200, True, httpx.Cookies())
        assert (await visitor.head("/login", params={"link": link})).status_code == 405
    assert (await visitor.post("/login", data={"link": link}, headers=CROSS)).status_code == 403
    opened = await visitor.post("/login", data={"link": link}, headers={"sec-fetch-site": "same-origin"})
    assert (opened.status_code, opened.headers["location"]) == (303, "/label")
    cookie = opened.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Secure", "Path=/"))
    assert 12 * 3600 < int(re.findall(r"Max-Age=(\d+)", cookie)[0]) <= 12 * 3600 + 900
    assert (await visitor.get("/login", params={"link": link})).status_code == 410
    again = await visitor.post("/login", data={"link": link})
    assert (again.status_code, "set-cookie" in again.headers) == (403, False)
    secrets = [link, cookie.partition("=")[2].partition(";")[0]]
    kept = str(senders.rows("select link_sha256, cookie_sha256 from browser_session"))
    assert not any(secret in kept for secret in secrets)
    for nothing in ("", "x", "\x00"):
        assert (await visitor.post("/login", data={"link": nothing})).status_code in (403, 422)


async def test_a_cookie_is_secure_where_people_come_by_https(database: Database, migrated: Settings) -> None:
    outside = migrated.model_copy(update={"gateway": migrated.gateway.model_copy(update={"url": "https://labels.example"})})
    for settings, secure in ((outside, True), (migrated, False)):
        made_app = make_app(settings)
        async with (
            made_app.router.lifespan_context(made_app),
            Client(transport=httpx.ASGITransport(made_app), base_url="http://gateway") as asked,
        ):
            answer = await asked.post("/login", data={"link": made(database)[2]})
            assert ("; Secure" in answer.headers["set-cookie"]) == secure


async def test_a_link_and_a_session_end(visitor: Client, app: FastAPI, database: Database, senders: Senders) -> None:
    late = "update browser_session set {} = now() - interval '1 s' where link_sha256 = encode(sha256(convert_to(:link, 'utf8')), 'hex')"

    def over(column: str, link: str) -> None:
        senders.rows(late.format(column) + " returning id", link=link)
        app.state.parts.cookies._known.clear()  # seconds later

    _, _, link = made(database)
    over("link_expires_at", link)
    assert (await visitor.get("/login", params={"link": link})).status_code == 410
    assert (await visitor.post("/login", data={"link": link})).status_code == 403
    _, _, link = made(database)
    await signed_in(visitor, link)
    over("expires_at", link)
    ended = await visitor.get("/label")
    assert (ended.status_code, "You are signed out" in ended.text) == (401, True)

    rows, key, link = made(database, days=1)
    await signed_in(visitor, link)
    rows.revoke_key(key)
    app.state.parts.cookies._known.clear()
    assert (await visitor.get("/label")).status_code == 401

    _, _, link = made(database)
    token = await signed_in(visitor, link)
    cookie = visitor.cookies["perdure_session"]
    assert (await visitor.post("/logout", data={"token": token})).status_code == 200
    assert "perdure_session" not in visitor.cookies
    assert (await visitor.get("/label", headers={"cookie": f"perdure_session={cookie}"})).status_code == 401
    assert (await visitor.get("/label", headers={"authorization": f"Bearer {cookie}"})).status_code == 401


async def test_a_revoked_key_makes_no_link_work(visitor: Client, database: Database) -> None:
    rows, key, link = made(database)
    rows.revoke_key(key)
    assert (await visitor.get("/login", params={"link": link})).status_code == 410
    assert (await visitor.post("/login", data={"link": link})).status_code == 403
    assert (await visitor.get("/label")).status_code == 401


async def test_nothing_changes_without_the_token(visitor: Client, database: Database, campaign: str, senders: Senders) -> None:
    _, _, link = made(database, "label", "campaign:read", "adjudicate", "promote:approve")
    token = await signed_in(visitor, link)
    nobody = "00000000-0000-0000-0000-000000000000"
    said = {"task": "t0", "assignment": nobody, "lease_token": nobody, "key": "abcdefgh", "value": "pos"}
    for path, body in (
        (f"/label/{campaign}/tasks", {"want": "1"}),
        (f"/label/{campaign}/answer", said),
        (f"/label/{campaign}/undo", said),
        (f"/label/{campaign}/release", {"lease": f"{nobody}/{nobody}"}),
        (f"/label/{campaign}/hold", {"lease": f"{nobody}/{nobody}"}),
        (f"/campaigns/{campaign}/adjudicate", {"task": "t0", "value": "pos", "reason": "x"}),
        (f"/approvals/{nobody}", {"decision": "approve", "evidence_sha256": "0" * 64}),
        ("/logout", {}),
    ):
        for wrong in ({}, {"token": ""}, {"token": "0" * 64}, {"token": "é"}):
            refused = await visitor.post(path, data={**body, **wrong}, headers={"accept": "application/json"})
            assert (refused.status_code, refused.json()["field"]) == (403, "token"), path
    assert senders.statuses(campaign) == {}
    taken = {**said, "token": token}
    for _ in range(2):  # a double click
        answered = await visitor.post(f"/label/{campaign}/answer", data=taken, headers={"accept": "application/json"})
        assert answered.json() == {"status": "valid", "told": ""}
    assert senders.statuses(campaign) == {"t0": ["valid"]}
    for wrong, field in (
        ({"value": "maybe"}, "value"),
        ({"value": ""}, "value"),
        ({"key": "a/b"}, "key"),
        ({"assignment": "x"}, "assignment"),
    ):
        refused = await visitor.post(
            f"/label/{campaign}/answer", data={**taken, "key": "other-key", **wrong}, headers={"accept": "application/json"}
        )
        assert (refused.status_code, refused.json()["field"]) == (422, field)


async def test_what_a_page_tells_a_browser_and_a_person(visitor: Client, database: Database, app: FastAPI) -> None:
    _, _, link = made(database, "label")
    await signed_in(visitor, link)
    for path, status, told in (
        ("/label", 200, "<h1>Label</h1>"),
        ("/label/none", 404, "There is no campaign &#39;none&#39;"),
        ("/label/%00", 404, "There is no such campaign"),
        ("/campaigns", 403, "may not: campaign:read"),
        ("/approvals", 403, "may not: promote:approve"),
    ):
        page = await visitor.get(path)
        assert (page.status_code, told in page.text) == (status, True), path
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
        assert not re.search(r"<script(?![^>]* src=\"/static/)|<style|<[^>]*\s(on[a-z]+|style)=|(src|href)=\"(https?:)?//", page.text)
    for file in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', (await visitor.get("/label")).text)):
        found = await visitor.get(file)
        assert (found.status_code, "immutable" in found.headers["cache-control"]) == (200, True)
    assert (await visitor.get("/static/../shell.py")).status_code == 404
    assert (await visitor.get("/")).headers["location"] == "/label"
    assert not [path for path in app.openapi()["paths"] if not path.startswith(("/v1/", "/healthz"))]
    assert [home_of(frozenset({each})) for each in ("admin", "campaign:read", "promote:approve")] == ["/label", "/campaigns", "/approvals"]


def test_which_images_are_loaded() -> None:
    spec = Campaign(question="?", choices=["a"], shows="image")
    loaded = {
        "https://x.example/a.png": True,
        "HTTPS://x.example/a.png": True,
        "/files/a.png": True,
        "data:image/png;base64,AAAA": True,
        "http://x.example/a.png": False,
        "//x.example/a.png": False,
        "/\\x.example/a.png": False,
        "data:text/html,x": False,
        "javascript:alert(1)": False,
        " https://x.example": False,
        "s3://bucket/a.png": False,
    }
    for address, wanted in loaded.items():
        block = shown(spec, {"image": address}).blocks[0]
        assert (block.image == address, block.refused == address) == (wanted, not wanted), address
