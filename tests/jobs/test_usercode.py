"""Whatever goes wrong in the owner's code is a typed error that says what to do."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.adapters.s3 import ObjectStore
from perdure.errors import CorruptArtifact, JobCrashed, StorageFull, UserCodeError, UserCodeImport
from perdure.jobs import usercode
from perdure.messages.common import ArtifactRef
from tests.servers import Stack


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PERDURE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("project")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "reference", "text", "remedy"),
    [
        ("import no_such_library", "project:act", "No module named 'no_such_library'", "install no_such_library where jobs run"),
        ("def act(context): (", "project:act", "SyntaxError", "mend project"),
        ("x = 1 / 0", "project:act", "x = 1 / 0", "mend project"),
        ("raise SystemExit(3)", "project:act", "SystemExit: 3", "mend project"),
        ("y = 1", "project:act", "has no attribute 'act'", "define act in project"),
        ("y = 1", "project.parts:act", "No module named 'project.parts'", "see that the project holds project.parts"),
    ],
)
def test_code_that_cannot_be_imported(tmp_path: Path, source: str, reference: str, text: str, remedy: str) -> None:
    (tmp_path / "project.py").write_text(source)
    with pytest.raises(UserCodeImport) as raised:
        usercode.load(reference)
    assert text in str(raised.value)
    assert (raised.value.remedy or "").startswith(remedy)


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (ValueError("no luck"), UserCodeError, "ValueError: no luck"),
        (SystemExit("I leave"), UserCodeError, "SystemExit: I leave"),
        (MemoryError(), JobCrashed, "out of memory"),
        (OSError(28, "No space left on device"), StorageFull, "local disk"),
        (RuntimeError("cannot write: No space left on device (os error 28)"), StorageFull, "local disk"),
        (CorruptArtifact("bad bytes"), CorruptArtifact, "bad bytes"),
    ],
)
def test_what_the_code_raises(error: BaseException, expected: type[Exception], text: str) -> None:
    def function(wanted: BaseException) -> None:
        raise wanted

    with pytest.raises(expected, match=text) as raised:
        usercode.call("the transform", function, error)
    if expected is UserCodeError:
        assert "the transform" in str(raised.value)
        assert "in function" in str(raised.value)  # the owner's frame, not Perdure's
        assert "jobs/usercode.py" not in str(raised.value)


@pytest.mark.parametrize("full", [False, True])
def test_errors_that_cause_each_other_are_looked_at_once(full: bool) -> None:
    first, second = ValueError("first"), OSError(28, "No space left on device") if full else KeyError("second")
    first.__cause__, second.__cause__ = second, first
    assert usercode.disk_full(first) is full


def test_long_errors_are_cut() -> None:
    def function() -> None:
        raise ValueError("x" * 100_000)

    with pytest.raises(UserCodeError) as raised:
        usercode.call("it", function)
    assert len(str(raised.value)) < 5_000


def test_a_package_is_unpacked_once_and_imported(stack: Stack, tmp_path: Path) -> None:
    objects = ObjectStore(stack.isolated().s3)
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("project_of_mine/__init__.py", "")
        archive.writestr("project_of_mine/steps.py", "VALUE = 7")
    code = objects.put("code", "code.zip", body.getvalue())
    folder = usercode.install(objects, code)
    assert usercode.load("project_of_mine.steps:VALUE") == 7
    objects.delete([code.uri.partition(f"{objects.bucket}/")[2]])
    assert usercode.install(objects, code) == folder  # from the cache
    assert [path.name for path in folder.parent.iterdir()] == [code.sha256]
    sys.path.remove(str(folder))


def test_a_broken_package_is_refused(stack: Stack, tmp_path: Path) -> None:
    objects = ObjectStore(stack.isolated().s3)
    with pytest.raises(UserCodeImport, match="not a zip file"):
        usercode.install(objects, objects.put("code", "code.zip", b"no zip"))
    good = objects.put("code", "code.zip", b"x")
    with pytest.raises(CorruptArtifact):
        usercode.install(objects, ArtifactRef(uri=good.uri, sha256="0" * 64))
    assert [*(tmp_path / "cache" / "code").iterdir()] == []
