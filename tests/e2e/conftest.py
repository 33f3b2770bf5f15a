"""One whole stack with a worker for all tests of this folder: what is attacked here is what people run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.local import stack as local
from tests.chaos.cells import World


@pytest.fixture(scope="package")
def world(new_home: Callable[[], Path]) -> Iterator[World]:
    """Everything but MLflow's web server, which only the kill cells need, is awaited. It ends with the folder, as a stack is never idle."""
    home = new_home()
    before = os.environ.get("PERDURE_HOME")
    os.environ["PERDURE_HOME"] = str(home)
    local.up(home, tied=True)
    yield World(home)
    local.down(home)
    if before is None:
        del os.environ["PERDURE_HOME"]
    else:
        os.environ["PERDURE_HOME"] = before
