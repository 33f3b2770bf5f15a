"""The four questions over HTTP, by the command line, and on pages in a real browser: as of any instant."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from perdure.config import Settings
from perdure.gateway.pages.timeline import THIN, WIDTH, timeline
from perdure.messages.common import Json
from perdure.metadata.database import Database
from perdure.metadata.queries import model_history
from perdure.ports import ModelVersion, Run
from tests.gateway.browsing import PHONE, chromium, needs_chromium, person
from tests.gateway.serving import Process, serving
from tests.gateway.test_commands import call as call
from tests.gateway.world import People
from tests.metadata.test_history import DAY, Life
from tests.metadata.world import SPEC, World
from tests.servers import Stack


class Named(World):
    """Rows about a model of another name."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database)
        self.name = name

    def run(self, key: str = "1", *, chain: str = "first", spec: Json = SPEC, code: str | None = "code.zip", **request: Any) -> Run:
        return super().run(key, chain=chain, spec=spec | {"name": self.name}, code=code, **request)

    def model(self, run: Run, predictor: str = "predictor.zip", model: str = "") -> ModelVersion:
        return super().model(run, predictor, self.name)


@pytest.fixture(scope="module")
def life(database: Database) -> Life:
    name = f"m{uuid4().hex[:8]}"
    return Life(Named(database, name), name)


async def test_over_http(client: httpx.AsyncClient, people: People, life: Life) -> None:
    reader = people("vera", "model:read")

    async def get(path: str, status: int = 200, **query: str) -> Any:
        response = await client.get(f"/v1{path}", params=query, headers=reader)
        assert response.status_code == status, response.text
        return response.json()

    then = (life.released + 7 * DAY).isoformat()
    assert [each["serves"] for each in (await get("/models"))["models"] if each["model"] == life.model] == [2]
    assert [each["serves"] for each in (await get("/models", at=then))["models"] if each["model"] == life.model] == [1]
    model = await get(f"/models/{life.model}")
    assert ([each["number"] for each in model["versions"]], model["history"]["drift_events"]) == ([2, 1], 5)
    assert [row["version"] for row in (await get(f"/models/{life.model}", at=then))["history"]["serving"]] == [1]
    lineage = await get(f"/models/{life.model}/lineage", at=(life.canary + DAY / 2).isoformat())
    assert (lineage["lineage"]["number"], [row["role"] for row in lineage["serving"]]) == (1, ["release", "canary"])
    assert lineage["lineage"]["origin"]["git_commit"] == "a1b2c3"
    assert (await get(f"/models/{life.model}/lineage", version="2"))["lineage"]["number"] == 2
    prediction = await get(f"/predictions/{life.by_canary}")
    assert (prediction["version"], [row["role"] for row in prediction["served"]]) == (2, ["canary"])
    assert len((await get(f"/predictions/{life.early}"))["said"]) == 4
    assert len((await get(f"/predictions/{life.early}", at=(life.released + 3 * DAY).isoformat()))["said"]) == 2
    for path, status in (
        ("/models/nobody", 404),
        ("/models/nobody/lineage", 404),
        (f"/predictions/{life.early.replace(life.model, 'nobody')}", 404),
        ("/predictions/nonsense", 422),
        (f"/models/{life.model}?at=yesterday", 422),
    ):
        assert (await client.get(f"/v1{path}", headers=reader)).status_code == status
    assert (await get(f"/models/{life.model}/lineage", 404, at=(life.released - DAY).isoformat()))["field"] == "at"
    assert (await client.get("/v1/models", headers=people("ada", "label"))).status_code == 403


def test_by_the_command_line(call: Any, life: Life) -> None:
    found = call("lineage", life.model, "--at", (life.canary + DAY / 2).isoformat())
    assert (found["number"], [(row["role"], row["version"]) for row in found["serving"]]) == (1, [("release", 1), ("canary", 2)])
    made = call("lineage", life.early)
    assert (made["version"], [each["who"] for each in made["said"]]) == (1, ["ada", "bob", "orders", "ada"])
    assert call("lineage", f"{life.model}.1.nonsense", ok=False)["error"]["field"] == "prediction_id"


def test_what_is_on_the_time_line(database: Database, life: Life) -> None:
    now = timeline(model_history(database, life.model))
    assert now is not None
    lanes = {lane.name: lane.bars for lane in now.lanes}
    assert list(lanes) == ["v2", "v1", "drift", "decisions"]
    assert [(bar.kind, bar.height) for bar in lanes["v2"]] == [("canary", 5), ("release", 24)]
    assert [bar.kind for bar in lanes["drift"]] == ["drift"] * 3
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.width >= THIN for bars in lanes.values() for bar in bars)
    assert abs(lanes["v1"][0].width - WIDTH * 10 / 21) < 2
    assert "version 2, canary, 10 %" in lanes["v2"][0].title
    moment = timeline(model_history(database, life.model, life.released))
    assert moment is not None
    assert moment.end - moment.start == timedelta(minutes=1)


# --- pages -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process(stack: Stack, migrated: Settings) -> Any:
    with serving(stack, migrated) as started:
        yield started


@pytest_asyncio.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@needs_chromium
@pytest.mark.parametrize(("look", "more"), [("desk", {}), ("phone", {**PHONE, "color_scheme": "dark"})])
async def test_the_pages(
    browser: Browser, process: Process, database: Database, life: Life, tmp_path: Path, look: str, more: dict[str, Any]
) -> None:
    async with person(browser, process.url, database, "vera", "model:read", "campaign:read", **more) as vera:
        page = vera.page
        await vera.go(f"/models?at={(life.released + 7 * DAY).strftime('%Y-%m-%dT%H:%M')}")
        await expect(page.get_by_role("row", name=life.model)).to_contain_text("v1")
        await page.screenshot(path=tmp_path / f"{look}-list.png", full_page=True)
        await page.get_by_role("link", name="Now").click()
        await expect(page.get_by_role("row", name=life.model)).to_contain_text("v2")
        await page.get_by_role("link", name=life.model).click()
        await expect(page.get_by_role("heading", name=life.model)).to_be_visible()
        await expect(page.locator(".timeline rect.canary")).to_have_count(1)
        assert await page.locator(".timeline rect.drift").count() == 3
        await expect(page.get_by_role("region", name="Table of intervals")).to_contain_text("canary 10 %")
        await expect(page.locator(".card")).to_contain_text("it helped")
        await expect(page.get_by_role("region", name="Table of feedback").get_by_role("row").nth(1)).to_have_text(
            re.compile(r"v1\s*1\s*1\s*0\s*1")
        )
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
        assert await page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('.timeline'))")
        await page.screenshot(path=tmp_path / f"{look}.png", full_page=True)
        await page.get_by_label("As of").fill((life.released + 7 * DAY).strftime("%Y-%m-%dT%H:%M"))
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator(".facts").first).to_contain_text("v1")
        await expect(page.locator(".timeline rect.canary")).to_have_count(0)
        await expect(page.get_by_role("region", name="Table of episodes")).to_contain_text("open")
        await vera.go(f"/models/{life.model}?at=never")
        await expect(page.get_by_role("main")).to_contain_text("is no time")
        await vera.go("/models/nobody")
        await expect(page.get_by_role("main")).to_contain_text("nobody")
