"""A migrated database on a real Postgres, a tenant of its own for each test, and a second server of the oldest supported version."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.config import Settings
from perdure.local import postgres
from perdure.local import stack as local
from perdure.local.files import Home
from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.metadata.world import World
from tests.servers import Stack

Fresh = Callable[[], Settings]
MAJORS = (16, 18)


@pytest.fixture(scope="session")
def oldest(new_home: Callable[[], Path]) -> Iterator[Settings]:
    """A Postgres 16."""
    home = Home(new_home())
    home.create()
    as_user = postgres._demoted() if os.geteuid() == 0 else []
    asyncio.run(postgres._initialise(home.path / "pg", postgres.binaries(16), as_user, home.secret("postgres")))
    local.up(home.path, only={"postgres"}, tied=True)
    yield Settings(home=home.path)
    local.down(home.path)


@pytest.fixture(params=MAJORS, ids=lambda major: f"postgres-{major}")
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Makes settings that name a database which does not exist yet, on every supported major version."""
    settings: Settings = request.getfixturevalue("oldest") if request.param == 16 else request.getfixturevalue("stack").settings

    def make() -> Settings:
        server = settings.postgres.url.rpartition("/")[0]
        return settings.model_copy(update={"postgres": settings.postgres.model_copy(update={"url": f"{server}/t{uuid4().hex[:12]}"})})

    return make


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Settings:
    """Settings of a migrated database that all tests share, each under its own tenant."""
    settings = stack.isolated()
    upgrade(settings)
    return settings


@pytest.fixture(scope="session")
def pool(migrated: Settings) -> Iterator[Database]:
    with Database.open(migrated) as opened:
        yield opened


@pytest.fixture
def database(pool: Database) -> Database:
    return as_tenant(pool)


def as_tenant(pool: Database) -> Database:
    """The same connections for a tenant of its own: what an engine has compiled serves all tests."""
    database = copy.copy(pool)
    database.tenant = uuid4().hex[:12]
    return database


@pytest.fixture
def world(database: Database) -> World:
    return World(database)
