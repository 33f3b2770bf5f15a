"""A program out of a release archive whose checksum is known beforehand."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import httpx

from perdure.errors import CorruptArtifact, NotFound

TIMEOUT = httpx.Timeout(30, connect=5)  # where the host cannot be reached, the next way should not wait


def program(address: str, sha256: str, name: str, place: Path) -> None:
    """Fetch the archive and put its member *name* at *place* as a whole.

    Raises NotFound where it cannot be fetched, CorruptArtifact where it is not the archive with this checksum: nothing of it is used then.
    """
    with tempfile.TemporaryFile(dir=place.parent) as archive:
        digest = hashlib.sha256()
        try:
            with httpx.stream("GET", address, timeout=TIMEOUT, follow_redirects=True) as response:
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    digest.update(chunk)
                    archive.write(chunk)
        except httpx.HTTPError as err:
            raise NotFound(f"the release cannot be fetched ({type(err).__name__}: {err})") from err
        if digest.hexdigest() != sha256:
            raise CorruptArtifact(f"{address} has sha256 {digest.hexdigest()} instead of {sha256}")
        archive.seek(0)
        _extract(archive, name, place)


def _extract(archive: IO[bytes], name: str, place: Path) -> None:
    unfinished = place.with_name(f".{place.name}.new")
    with tarfile.open(fileobj=archive) as tar:
        member = next((member for member in tar if member.isfile() and Path(member.name).name == name), None)
        source = tar.extractfile(member) if member is not None else None
        if source is None:
            raise CorruptArtifact(f"the archive holds no {name}")
        unfinished.write_bytes(source.read())
    unfinished.chmod(0o755)
    os.replace(unfinished, place)
