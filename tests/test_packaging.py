"""What `perdure apply` packs: which code, which bytes, which commit, and what it refuses before anything is stored."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from perdure import packaging
from perdure.errors import InvalidInput, NotFound
from perdure.packaging import inspect, located, package
from perdure.spec.pipeline import load

SPEC = """\
name: moderation
data:
  source: {uri: data/*.tsv, format: tsv, columns: [label, text]}
  schema: moderation.steps:Message
  target: {column: label, positive: spam}
  transform: moderation.steps:Features
"""
STEPS = "from moderation import words\nimport shared\n\nclass Message: ...\n\nclass Features: ...\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package, a module that it imports, and much that must not be packed."""
    files = {
        "pipeline.yaml": SPEC,
        "moderation/__init__.py": "",
        "moderation/steps.py": STEPS,
        "moderation/words.py": "def load(): ...\n",
        "moderation/words.txt": "spam\n",
        "moderation/.env": "SECRET=1\n",
        "moderation/.cache/x.py": "",
        "moderation/__pycache__/steps.cpython-311.pyc": "x",
        "shared.py": "import json\n",
        "unrelated.py": "raise SystemExit\n",
        "data/a.tsv": "ham\thello\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def complaints(project: Path) -> list[str]:
    found, mistakes = inspect(project)
    assert found is None
    return [str(each).removeprefix(f"{project}/") for each in mistakes]


def test_packs_what_is_named_and_what_that_imports(project: Path) -> None:
    packed = package(project / "pipeline.yaml")
    assert packed.files == ("moderation/__init__.py", "moderation/steps.py", "moderation/words.py", "moderation/words.txt", "shared.py")
    assert packed.code is not None
    with zipfile.ZipFile(io.BytesIO(packed.code)) as archive:
        assert tuple(archive.namelist()) == packed.files
        assert archive.read("moderation/steps.py").decode() == STEPS


def test_same_files_same_bytes(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither time, nor mode, nor folder, nor order of creation shows."""
    copy = tmp_path_factory.mktemp("copy")
    for source in sorted(project.rglob("*"), reverse=True):
        if source.is_file():
            target = copy / source.relative_to(project)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            os.utime(target, (1_000_000_000, 1_000_000_000))
            target.chmod(0o755)
    assert package(project).code == package(copy).code
    (copy / "shared.py").write_text("import os\n")
    assert package(project).code_sha256 != package(copy).code_sha256


def test_code_in_src(project: Path) -> None:
    (project / "src").mkdir()
    (project / "moderation").rename(project / "src" / "moderation")
    assert package(project).files[0] == "moderation/__init__.py"


def test_no_code_no_package(project: Path) -> None:
    (project / "plain.yaml").write_text("name: m\ndata: {source: {uri: s3://b/x, format: csv}, target: label}\n")
    packed = package(project / "plain.yaml")
    assert (packed.code, packed.files, packed.code_sha256) == (None, (), None)


def test_code_of_an_installed_library_is_not_packed(project: Path) -> None:
    (project / "plain.yaml").write_text(
        "name: m\ndata: {source: {uri: s3://b/x, format: csv}, target: label, transform: 'sklearn.preprocessing:normalize'}\n"
    )
    assert package(project / "plain.yaml").code is None


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "pipeline.yaml",
            SPEC.replace("steps:Features", "steps:Featrues"),
            'pipeline.yaml:6: data.transform: moderation.steps does not define "Featrues"; did you mean Features?',
        ),
        (
            "pipeline.yaml",
            SPEC.replace("moderation.steps:M", "moderation.step:M"),
            'pipeline.yaml:4: data.schema: "moderation.step" is no module of the project; did you mean moderation.steps?',
        ),
        ("pipeline.yaml", SPEC.replace("moderation.steps:M", "moderatoin.steps:M"), "did you mean moderation?"),
        ("pipeline.yaml", SPEC.replace("moderation.steps:Message", "json:loads"), 'there is no package or module "json" in'),
        ("moderation/steps.py", "class Message\n", "moderation/steps.py: line 1: expected ':'"),
        ("moderation/words.py", "x = = 1\n", "moderation/words.py: line 1: invalid syntax"),
        ("shared.py", "def f(:\n", "shared.py: line 1: "),
    ],
)
def test_code_is_looked_at_before_anything_starts(project: Path, file: str, text: str, told: str) -> None:
    (project / file).write_text(text)
    found = complaints(project)
    assert any(told in each for each in found), found


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import *\n",
        "def __getattr__(name): ...\n",
        "try:\n    from fast import Message, Features\nexcept ImportError:\n    Message = Features = object\n",
        "if True:\n    (Message, Features) = (1, 2)\n",
        "globals().update(Message=1, Features=2)\n",
    ],
)
def test_names_that_may_be_defined_are_believed(project: Path, text: str) -> None:
    (project / "moderation/steps.py").write_text(text)
    assert inspect(project)[1] == []


def test_own_code_never_runs(project: Path) -> None:
    (project / "moderation/steps.py").write_text("raise SystemExit('it ran')\nclass Message: ...\nclass Features: ...\n")
    assert package(project).code is not None


def test_too_much_code_names_the_largest_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaging, "MAX_BYTES", 1 << 20)
    (project / "moderation/model.bin").write_bytes(b"\0" * (3 << 20))
    with pytest.raises(InvalidInput, match=r"more than 1; the largest files:\n +3\.0 MiB  moderation/model\.bin"):
        package(project)


def test_data_path_is_absolute_afterwards(project: Path) -> None:
    assert package(project).spec.data.source.uri == f"file://{project}/data/*.tsv"
    spec = load({"name": "m", "data": {"source": {"uri": "../rows/", "format": "csv"}, "target": "y"}})
    assert located(spec, project).data.source.uri == f"file://{project.parent}/rows/"
    spec = load({"name": "m", "data": {"source": {"uri": "/my rows/100%#[ab]?*.csv", "format": "csv"}, "target": "y"}})
    uri = located(spec, project).data.source.uri
    assert unquote(urlsplit(uri).path) == "/my rows/100%#[ab]?*.csv"


@pytest.mark.parametrize("uri", ["s3://bucket/key/*.csv", "file:///data/x.csv"])
def test_other_addresses_stay(project: Path, uri: str) -> None:
    spec = load({"name": "m", "data": {"source": {"uri": uri, "format": "csv"}, "target": "y"}})
    assert located(spec, project) == spec


@pytest.mark.parametrize("uri", ["https://example.org/x.csv", "file://data/x.csv", "s3://", "s3:///key"])
def test_addresses_that_no_job_can_read(uri: str) -> None:
    with pytest.raises(InvalidInput, match=r"data\.source\.uri: must be"):
        load({"name": "m", "data": {"source": {"uri": uri, "format": "csv"}, "target": "y"}})


def test_a_folder_stands_for_its_specification(project: Path, tmp_path: Path) -> None:
    assert package(project).spec.name == "moderation"
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"empty/pipeline\.yaml"):
        package(tmp_path / "empty")


def test_commit_and_whether_the_files_are_in_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "somebody")
        monkeypatch.setenv(f"{name}_EMAIL", "somebody@example.org")

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(project), *arguments], check=True, capture_output=True, text=True).stdout.strip()

    assert package(project).commit is None
    git("init", "-q")
    (project / ".gitignore").write_text("shared.py\n__pycache__/\n")
    git("add", ".")
    git("commit", "-qm", "first")
    head = git("rev-parse", "HEAD")
    assert package(project).commit == f"{head}-dirty", "shared.py is packed, but ignored by git"
    git("add", "-f", "shared.py")
    git("commit", "-qm", "second")
    head = git("rev-parse", "HEAD")
    assert package(project).commit == head
    (project / "unrelated.py").write_text("")
    assert package(project).commit == head, "what is not packed does not count"
    (project / "pipeline.yaml").write_text(SPEC + "owner: ada\n")
    assert package(project).commit == f"{head}-dirty"
