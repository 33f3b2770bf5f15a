"""The short form of ``make flood``: nothing that was accepted is lost or counted twice, whatever dies meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.local import stack
from tests.flood.__main__ import NEEDED, flood


@pytest.fixture
def home(new_home: Callable[[], Path]) -> Iterator[Path]:
    made, before = new_home(), os.environ.get("PERDURE_HOME")
    os.environ["PERDURE_HOME"] = str(made)
    stack.up(made, only=NEEDED, tied=True)
    yield made
    stack.down(made)
    if before is None:
        del os.environ["PERDURE_HOME"]
    else:
        os.environ["PERDURE_HOME"] = before


def test_labels_under_kills(home: Path) -> None:
    figures = flood(home, labels=20_000, seed=7, kills=20)
    assert sum(figures["kills"].values()) >= 20
    assert figures["valid"] > 19_000
