"""Rows for workflows that decide on real ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from uuid import uuid4

import pytest

from perdure.metadata.database import Database
from perdure.metadata.upgrade import upgrade
from tests.metadata.world import World
from tests.servers import Stack


@pytest.fixture(scope="module")
def pool(stack: Stack) -> Iterator[Database]:
    settings = stack.isolated()
    upgrade(settings)
    with Database.open(settings) as opened:
        yield opened


@pytest.fixture
def world(pool: Database) -> World:
    """Rows of a tenant of its own."""
    database = copy.copy(pool)
    database.tenant = uuid4().hex[:12]
    return World(database)
