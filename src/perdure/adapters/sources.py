"""Whether the files of a source have changed, by what their store says of them: nothing is read."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

from perdure.adapters.s3 import ObjectStore
from perdure.errors import NotFound, SourceMissing
from perdure.keys import digest


class StoredSources:
    """`perdure.ports.SourceFiles` on S3 and this machine's disk."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def fingerprint(self, uri: str) -> str:
        """A digest of names, sizes and versions (S3: ETag; disk: time of change) of the files that *uri* names. Raises SourceMissing."""
        try:
            found = sorted(self._stored(uri) if uri.startswith("s3://") else _on_disk(uri))
        except NotFound:
            found = []
        if not found:
            raise SourceMissing(
                f"{uri} names no file", field="data.source.uri", remedy="see that the path is right as seen from the worker"
            )
        return digest(found)

    def _stored(self, uri: str) -> Iterator[tuple[str, int, str]]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        start = min((key.index(c) for c in "*?[" if c in key), default=None)
        folder = key if key.endswith("/") or not key else f"{key}/"
        for name, size, version in self._objects.versions(key[:start], bucket):
            if name == key or name.startswith(folder) or (start is not None and fnmatchcase(name, key)):
                yield name, size, version


def _on_disk(uri: str) -> Iterator[tuple[str, int, str]]:
    path = Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)
    if path.is_dir():
        found = [each for each in path.rglob("*") if each.is_file()]
    else:
        found = [path] if path.is_file() else [each for each in map(Path, glob.glob(str(path), recursive=True)) if each.is_file()]
    for each in found:
        said = each.stat()
        yield str(each), said.st_size, str(said.st_mtime_ns)
