"""Applying a pipeline: its specification, the owner's code beside it as one deterministic zip, and where both come from."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from perdure.config import Settings
from perdure.errors import InvalidInput
from perdure.ports import PipelineVersion
from perdure.sourcecode import Project
from perdure.spec.mistakes import Mistake, mistake
from perdure.spec.pipeline import Pipeline, check, refusal
from perdure.spec.yamlfile import Document, read

MAX_BYTES = 32 << 20  # of code: every job unpacks it
NAMES = ("pipeline.yaml", "pipeline.yml", "pipeline.json")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
GIT_SECONDS = 10


@dataclass(frozen=True)
class Package:
    """What `apply` stores; ``code`` is None where the specification names no code of the owner's.

    ``commit`` is the git commit, with ``-dirty`` where a packaged file differs from it; None outside of git.
    """

    spec: Pipeline
    code: bytes | None
    files: tuple[str, ...]
    commit: str | None

    @property
    def code_sha256(self) -> str | None:
        """The digest under which jobs fetch the code."""
        return hashlib.sha256(self.code).hexdigest() if self.code is not None else None


def specification(path: Path) -> Path:
    """The specification at *path*: the file itself, or the ``pipeline.yaml`` of a folder."""
    if path.is_dir():
        return next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0])
    return path


def inspect(path: Path) -> tuple[Pipeline | None, list[Mistake]]:
    """The pipeline in *path*, and every mistake in it and in the code that it names. Raises NotFound, and InvalidInput for broken YAML."""
    path = specification(path)
    document = read(path)
    found = check(document.value, document)
    if isinstance(found, list):
        return None, found
    mistakes = _code_mistakes(found, Project(path.resolve().parent), document)
    return (None if mistakes else found), mistakes


def package(path: Path) -> Package:
    """Everything that `apply` stores of *path*. The same files give the same bytes, on every machine.

    Raises NotFound, and InvalidInput with every mistake in the specification and in the code that it names.
    """
    pipeline, mistakes = inspect(path)
    if pipeline is None:
        raise refusal(mistakes)
    path = specification(path).resolve()
    project = Project(path.parent)
    files = dict(_files(project, _tops(pipeline, project)))
    return Package(
        spec=located(pipeline, path.parent),
        code=_zip(files) if files else None,
        files=tuple(sorted(files)),
        commit=_commit(path.parent, {path, *files.values()}),
    )


def apply(path: Path, settings: Settings, *, actor: str) -> PipelineVersion:
    """Store the pipeline in *path* and make it the newest version of its name; the same content again changes nothing.

    Raises InvalidInput and NotFound before anything is stored; ObjectsUnavailable, StoreUnavailable.
    """
    from perdure.adapters.s3 import ObjectStore
    from perdure.metadata.database import Database
    from perdure.metadata.repository import RunRows

    packed = package(path)
    code = ObjectStore(settings.s3, attempts=3).put("code", "code.zip", packed.code) if packed.code is not None else None
    with Database.open(settings) as database:
        return RunRows(database).apply(packed.spec.as_json(), packed.spec.sha256, code, packed.commit, actor)


def located(pipeline: Pipeline, folder: Path) -> Pipeline:
    """*pipeline* with a data path (absolute, or relative to *folder*) as file:// URI; globs and a trailing slash stay."""
    uri = pipeline.data.source.uri
    if "://" in uri:
        return pipeline
    absolute = os.path.normpath(folder / uri) + ("/" if uri.endswith("/") else "")
    source = pipeline.data.source.model_copy(update={"uri": f"file://{quote(absolute, safe='/*[]{}!,')}"})
    return pipeline.model_copy(update={"data": pipeline.data.model_copy(update={"source": source})})


def _code_mistakes(pipeline: Pipeline, project: Project, document: Document) -> list[Mistake]:
    complaints = [(where, project.complaint(reference)) for where, reference in pipeline.named_code]
    found = [mistake(where, text, document) for where, text in complaints if text]
    if not found:  # the code that is not named itself must be Python, too
        for top in _tops(pipeline, project):
            found += [Mistake(0, "", f"{m.path.relative_to(project.folder)}: {m.broken}") for m in project.modules(top) if m.broken]
    return found


def _tops(pipeline: Pipeline, project: Project) -> list[str]:
    """The top-level names of the project that jobs need: those that are named, and those that these import."""
    found: set[str] = set()
    fresh = {reference.partition(":")[0].partition(".")[0] for reference in pipeline.code_references}
    while fresh := {top for top in fresh - found if project.root_of(top)}:
        found |= fresh
        fresh = {name for top in fresh for module in project.modules(top) for name in module.imports}
    return sorted(found)


def _files(project: Project, tops: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Name in the zip and path of every file to be packaged."""
    for top in tops:
        root = project.root_of(top)
        assert root is not None, "only what lies in the project is named here"
        single = root / f"{top}.py"
        if single.is_file():
            yield single.name, single
            continue
        for folder, folders, names in os.walk(root / top):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if not name.startswith(".") and path.suffix not in (".pyc", ".pyo") and path.is_file():
                    yield path.relative_to(root).as_posix(), path


def _zip(files: dict[str, Path]) -> bytes:
    """A zip that depends on names and contents only: sorted, no times, no modes; stored, as compressors differ between versions."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
        raise InvalidInput(
            f"the code has {sum(sizes.values()) / 2**20:.0f} MiB, more than {MAX_BYTES >> 20}; the largest files:\n  "
            + "\n  ".join(f"{sizes[name] / 2**20:8.1f} MiB  {name}" for name in largest),
            remedy="move data and models out of the package: name them in data.source, or install them where jobs run",
        )
    if odd := [name for name in files if not name.isprintable()]:
        raise InvalidInput(f"{odd[0]!r} cannot be packaged", remedy="give the file a name of printable characters in UTF-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, files[name].read_bytes())
    return buffer.getvalue()


def _commit(folder: Path, files: set[Path]) -> str | None:
    """The commit that holds *files*, marked where they differ from it or are not in it."""
    head = _git(folder, "rev-parse", "--verify", "HEAD")
    if head is None:
        return None
    tracked = {folder / name for name in (_git(folder, "ls-files", "-z") or "").split("\0")}
    changed = {folder / name for name in (_git(folder, "diff", "--name-only", "-z", "--relative", "HEAD") or "").split("\0")}
    return head.strip() + ("-dirty" if files - tracked or files & changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of git, or None where there is none, no repository, or no answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # names of files are bytes
            timeout=GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
