"""Port `Lines` on S3, by way of a file: nothing larger than a line is ever in memory."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.adapters.s3 import ObjectStore
from perdure.errors import InvalidInput, StorageFull
from perdure.labeling.manifest import LONGEST
from perdure.messages.common import ArtifactRef


class S3Lines:
    """Lines of JSON as objects."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @contextmanager
    def read(self, ref: ArtifactRef) -> Iterator[Iterator[bytes]]:
        """The lines, verified before the first is given; of one that is too long, no more than shows it. Raises InvalidInput, NotFound."""
        if not ref.uri.startswith("s3://"):
            raise InvalidInput(f"{ref.uri!r} is no object on S3", field="tasks.uri", remedy="`perdure campaigns upload FILE` makes one")
        with tempfile.TemporaryDirectory(prefix="perdure-lines-") as folder:
            path = self._objects.download(ref, Path(folder) / "lines")
            with path.open("rb") as file:
                yield iter(lambda: file.readline(LONGEST + 2), b"")

    def write(self, kind: str, name: str, lines: Iterable[bytes]) -> ArtifactRef:
        """Keep the lines as ``{kind}/{sha256}/{name}``."""
        with tempfile.TemporaryDirectory(prefix="perdure-lines-") as folder:
            path = Path(folder) / "lines"
            try:
                with path.open("wb") as file:
                    file.writelines(lines)
            except OSError as err:
                if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise StorageFull(f"no room on the local disk for {name}", remedy="free disk space on the node of the worker") from err
            return self._objects.upload(lambda sha256: f"{kind}/{sha256}/{name}", path)
