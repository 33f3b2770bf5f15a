"""What tests of jobs share: a bucket, and the owner's modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from perdure.adapters.s3 import ObjectStore
from tests.servers import Stack

Owner = Callable[[str], str]


@pytest.fixture(scope="session")
def objects(stack: Stack) -> ObjectStore:
    """The session's bucket."""
    return ObjectStore(stack.settings.s3)


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Owner]:
    """Writes a module of the owner's and returns its name, a new one each time: a process imports one version of a module."""
    folder = tmp_path / "owner"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    written: list[str] = []

    def write(source: str) -> str:
        written.append(f"steps_{uuid4().hex[:8]}")
        (folder / f"{written[-1]}.py").write_text(source)
        return written[-1]

    yield write
    for name in written:
        sys.modules.pop(name, None)
