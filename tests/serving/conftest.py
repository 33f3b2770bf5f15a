"""The serving application in this process, on a real Postgres and a real S3."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from perdure.serving.app import make_app
from perdure.serving.service import Service
from tests.servers import Stack
from tests.serving.world import Served


@pytest.fixture(scope="session")
def migrated(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings.model_copy(update={"home": tmp_path_factory.mktemp("serving")})


@pytest.fixture(scope="session")
def database(migrated: Settings) -> Iterator[Database]:
    with Database.open(migrated) as opened:
        yield opened


@pytest.fixture(scope="session")
def served(database: Database, migrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> Served:
    return Served(database, ObjectStore(migrated.s3), tmp_path_factory.mktemp("predictors"))


def with_serving(settings: Settings, **changed: Any) -> Settings:
    return settings.model_copy(update={"serving": settings.serving.model_copy(update=changed)})


class Asking(httpx.AsyncClient):
    """A client, and what it asks."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://serving")
        self.app = app

    @property
    def service(self) -> Service:
        return self.app.state.service  # type: ignore[no-any-return]

    async def predict(self, model: str, *rows: Any, **more: Any) -> httpx.Response:
        return await self.post(f"/v1/models/{model}/predict", json={"rows": list(rows), **more})

    async def look(self) -> None:
        """Read the rows, and wait for what is loaded because of them."""
        import asyncio

        await self.service.look()
        while loading := [*self.service.shelf._loading.values()]:
            await asyncio.gather(*loading)
        await self.service.look()


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[Asking]:
    app = make_app(settings)
    async with app.router.lifespan_context(app), Asking(app) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def client(migrated: Settings) -> AsyncIterator[Asking]:
    """One that asks for no key."""
    async with asking(with_serving(migrated, keys=False)) as opened:
        yield opened
