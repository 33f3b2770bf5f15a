"""A headless Chromium, and a person who works with it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

from perdure.metadata.database import Database
from perdure.metadata.repository import AccessRows, SessionRows

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
USUAL = ["label", "campaign:read", "adjudicate", "promote:approve"]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser of the system: Playwright's own is not fetched."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


def link(database: Database, principal: str, *scopes: str, hours: float = 1) -> str:
    """The path of a one-time link for somebody with these scopes."""
    key, _ = AccessRows(database).create_key(principal, list(scopes) or USUAL)
    return f"/login?link={SessionRows(database).make_link(principal, key.id, hours=hours)[1]}"


class Person:
    """Somebody who is signed in. What their browser asks of other hosts, and errors of scripts, are remembered."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context, self.page, self.url = context, page, url
        self.foreign: list[str] = []
        self.errors: list[str] = []
        context.on("request", self._watch)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _watch(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.foreign.append(request.url)

    async def go(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def work_on(self, campaign: str) -> None:
        """Open a campaign, and wait for its first task."""
        await self.go(f"/label/{campaign}")
        await expect(self.page.locator("form.task")).to_be_visible()

    async def task(self) -> str:
        return await self.page.locator("form.task input[name=task]").input_value()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def answer(self, *keys: str) -> str:
        """Answer the task that is shown by *keys*; which it was."""
        shown = await self.task()
        await self.press(*keys)
        await expect(self.page.locator(f'form.task input[name=task][value="{shown}"]')).to_have_count(0)
        return shown

    async def all_sent(self) -> None:
        """Wait until nothing is left to be sent."""
        deadline = time.monotonic() + 15
        while await self.page.evaluate("Object.keys(localStorage).some((key) => key.startsWith('perdure/'))"):
            assert time.monotonic() < deadline, await self.page.locator("#trouble").text_content()
            await self.page.wait_for_timeout(50)

    async def says(self, text: str, where: str = "#status") -> None:
        await expect(self.page.locator(where)).to_contain_text(re.compile(re.escape(text), re.IGNORECASE))


@asynccontextmanager
async def person(browser: Browser, url: str, database: Database, name: str, *scopes: str, **context: Any) -> AsyncIterator[Person]:
    """Somebody new at the gateway, signed in by a link."""
    opened = await browser.new_context(**context)
    opened.set_default_timeout(10_000)
    page = await opened.new_page()
    found = Person(opened, page, url)
    await found.go(link(database, name, *scopes))
    await page.get_by_role("button", name=f"Sign in as {name}").click()
    await page.wait_for_url(re.compile("/(label|campaigns|approvals)$"))
    yield found
    await opened.close()
    assert found.foreign == []
    assert found.errors == []
