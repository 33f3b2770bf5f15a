"""The files that ``data.source.uri`` names, on disk or S3, and their bytes."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from perdure.adapters.s3 import ObjectStore
from perdure.errors import NotFound, SourceChanged, SourceMissing

FIELD = "data.source.uri"
_CHUNK = 1 << 20
_REMEDY = "see that the path is right as seen from where jobs run, or use an s3:// URI"


@dataclass(frozen=True)
class SourceFile:
    """One file and its size in bytes."""

    uri: str
    size: int


class Sources:
    """Finds and reads source files; S3 through *objects*' credentials, in any bucket."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def find(self, uri: str) -> list[SourceFile]:
        """The files that *uri* names (one file, a glob, or all below a folder), by name. Raises SourceMissing."""
        found = self._find_objects(uri) if uri.startswith("s3://") else self._find_files(_local(uri))
        if not found:
            raise SourceMissing(f"{uri} names no file", field=FIELD, remedy=_REMEDY)
        if not any(file.size for file in found):
            raise SourceMissing(f"{uri} is empty", field=FIELD, remedy="see what should have written it")
        return [file for file in found if file.size]

    def read(self, uri: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes *start* to *end* in chunks; fewer where the file has become shorter. Raises SourceMissing."""
        try:
            if uri.startswith("s3://"):
                yield from self._objects.stream(uri, start, end)
            else:
                yield from _read_file(_local(uri), start, end)
        except (FileNotFoundError, NotFound):
            raise SourceMissing(f"{uri} has gone", field=FIELD, remedy="put the file back, or start a new run") from None
        except (PermissionError, IsADirectoryError) as err:
            raise SourceMissing(f"{uri} cannot be read: {err.strerror}", field=FIELD, remedy="let jobs read the file") from None

    def verified(self, uri: str, start: int, end: int, sha256: str) -> Iterator[bytes]:
        """`read`, and at the end SourceChanged where the bytes do not hash to *sha256*."""
        hasher = hashlib.sha256()
        yield from hashed(self.read(uri, start, end), hasher)
        if hasher.hexdigest() != sha256:
            raise SourceChanged(
                f"bytes {start} to {end} of {uri} are not those that were planned with",
                field=FIELD,
                remedy="let nobody write to a source that is being read; start a new run for the new contents",
            )

    def _find_objects(self, uri: str) -> list[SourceFile]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        pattern = min((key.index(c) for c in "*?[" if c in key), default=None)
        try:
            listed = sorted(self._objects.list(key[:pattern], bucket))
        except NotFound:
            raise SourceMissing(f"{uri}: there is no bucket {bucket!r}", field=FIELD, remedy="name an existing bucket") from None
        folder = key if key.endswith("/") or not key else f"{key}/"
        exact = [(name, size) for name, size in listed if name == key]
        if not exact and pattern is not None:
            exact = [(name, size) for name, size in listed if fnmatchcase(name, key)]
        below = [(name, size) for name, size in listed if name.startswith(folder) and _is_data(name[len(folder) :])]
        return [SourceFile(f"s3://{bucket}/{name}", size) for name, size in exact or below]

    def _find_files(self, path: Path) -> list[SourceFile]:
        if path.is_dir():
            paths = sorted(p for p in path.rglob("*") if p.is_file() and _is_data(p.relative_to(path).as_posix()))
        elif path.exists():
            paths = [path]
        else:
            paths = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
        return [SourceFile(p.absolute().as_uri(), p.stat().st_size) for p in paths]


def hashed(chunks: Iterable[bytes], *hashers: hashlib._Hash) -> Iterator[bytes]:
    """*chunks*, each of them also given to the *hashers*."""
    for chunk in chunks:
        for hasher in hashers:
            hasher.update(chunk)
        yield chunk


def _local(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)


def _is_data(name: str) -> bool:
    """Not a marker or hidden file such as ``_SUCCESS`` or ``.crc``."""
    return bool(name) and not name.endswith("/") and not any(part.startswith((".", "_")) for part in name.split("/"))


def _read_file(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        yield from _chunks(file, end - start)


def _chunks(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        yield chunk
