"""The gateway in this process on a real Postgres, with keys of several people, and one as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from perdure.config import Settings
from perdure.gateway.app import make_app
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows
from perdure.metadata.upgrade import upgrade
from tests.gateway.world import SPEC, People, Senders
from tests.servers import Stack


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Settings:
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture(scope="session")
def database(migrated: Settings) -> Iterator[Database]:
    with Database.open(migrated) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session")
async def app(migrated: Settings) -> AsyncIterator[FastAPI]:
    made = make_app(migrated)
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture(scope="session")
def people(database: Database) -> People:
    """A key for whoever is asked for, with all scopes but admin's."""
    return People(database)


@pytest_asyncio.fixture(scope="session")
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as opened:
        yield opened


@pytest.fixture
def campaign(database: Database) -> str:
    """The name of a new campaign with the tasks of the payloads, t0 to t3."""
    from perdure.labeling.ports import NewTask

    name, rows = f"c{uuid4().hex[:8]}", CampaignRows(database)
    row = rows.open(name, SPEC, f"campaign/{name}", "owner")
    rows.put_tasks(row.id, [NewTask(key=f"t{n}", payload={"text": str(n)}) for n in range(4)])
    return name


@pytest.fixture
def senders(database: Database, tmp_path: Path) -> Senders:
    return Senders(database, tmp_path)
