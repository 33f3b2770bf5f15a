"""Predictors on the local disk, by digest: fetched once, and deleted when nobody has asked for them in a month."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from perdure.messages.common import ArtifactRef

KEPT_SECONDS = 30 * 86_400.0


def fetched(home: Path, predictor: ArtifactRef, download: Callable[[ArtifactRef, Path], object], used: Iterable[str] = ()) -> Path:
    """The file of *predictor* below the data folder *home*, its bytes verified. *used* are digests that are in use beside it.

    Raises what *download* does.
    """
    folder = home / "cache" / "predictors"
    path = _path(folder, predictor.sha256)
    for each in (predictor.sha256, *used):
        with suppress(FileNotFoundError):
            os.utime(_path(folder, each))
    if not _agrees(path, predictor.sha256):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)  # first, as it makes room
        download(predictor, path)
    return path


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}.zip"


def _agrees(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _sweep(folder: Path) -> None:
    """Delete what is old, also the parts of downloads that were cut off."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink()
