"""A job's temporary folder. A killed job cannot remove its own: the next one on the node does."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX, _LOCK = "perdure-job-", ".lock"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that is removed at the end; locked meanwhile, which shows that its owner lives, also to jobs in other containers."""
    _remove_stale(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name, (Path(name) / ".new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(name) / _LOCK)  # seen by others only once it is locked
        made = Path(name) / "files"
        made.mkdir()
        yield made


def _remove_stale(parent: Path) -> None:
    for lock in parent.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
        except OSError:
            continue  # it lives, or is another user's, or somebody else removed it
