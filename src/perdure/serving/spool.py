"""Predictions on the local disk, on their way into the inference log. What is here survives the death of its process, not a power loss.

One folder a process: ``{instance}/{model}/{number}.rows``. A segment is a row of chunks: length, checksum, an Arrow stream. Only its
process writes, under a lock of the file system that ends with it: who gets the lock of another's folder knows that it is dead.
"""

from __future__ import annotations

import fcntl
import io
import mmap
import os
import shutil
import struct
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import UUID

import polars as pl

_HEAD = struct.Struct("<II")  # bytes and crc32 of a chunk
_SUFFIX = ".rows"
_COUNTERS, _LOCK = "counters", "lock"
_TRIES = 20  # to own a new folder, which others look into for a moment
_UNKNOWN = -1


class Counters:
    """Counts that survive the process: pages of a mapped file belong to the kernel. Sequence numbers are given out from 1 on.

    ``taken``: the last number given out; ``dropped``: rows that were refused; ``settled``: up to this number everything is in the spool or
    was dropped; ``lost``: found out by who comes after a kill, -1 before.
    """

    _FORM = struct.Struct("<qqqq")

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        with path.open("a+b") as file:
            if new or path.stat().st_size < self._FORM.size:
                file.write(self._FORM.pack(0, 0, 0, _UNKNOWN))
                file.flush()
            self._map = mmap.mmap(file.fileno(), self._FORM.size)
        self.taken, self.dropped, self.settled, self.lost = self._FORM.unpack(self._map)

    def save(self) -> None:
        """Keep the values as they are. Takes less than a microsecond."""
        self._FORM.pack_into(self._map, 0, self.taken, self.dropped, self.settled, self.lost)

    def close(self) -> None:
        """Forget the file."""
        self._map.close()


class Spool:
    """The folder of one process. `write` and `seal` are for one thread, all else for another one."""

    def __init__(self, root: Path, instance: UUID, most_bytes: int = 1 << 30, *, lock: int | None = None) -> None:
        self.instance, self.folder, self._most = instance, root / str(instance), most_bytes
        self._lock = lock if lock is not None else _own(self.folder)
        if self._lock is None:
            raise RuntimeError(f"{self.folder} is in use by another process")
        self.counters = Counters(self.folder / _COUNTERS)
        self._open: dict[str, tuple[Path, IO[bytes]]] = {}
        self._next: dict[str, int] = {}
        self._counting = threading.Lock()
        self.bytes = sum(path.stat().st_size for paths in self.segments().values() for path in paths)

    @classmethod
    def dead(cls, root: Path) -> Iterator[Spool]:
        """The folders of processes that are gone, each held by this one until it is closed or removed."""
        for folder in sorted(root.iterdir()) if root.is_dir() else []:
            with suppress(ValueError, FileNotFoundError):
                instance = UUID(folder.name)
                if (lock := _locked(folder)) is None:
                    continue
                if (folder / _COUNTERS).exists():
                    yield cls(root, instance, lock=lock)
                else:  # its process died, or waits, before it wrote anything
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

    def write(self, model: str, rows: pl.DataFrame) -> bool:
        """Append to the model's open segment. False where the spool is full."""
        body = io.BytesIO()
        rows.write_ipc_stream(body, compression="lz4")
        chunk = body.getvalue()
        if self.bytes + len(chunk) > self._most:
            return False
        if model not in self._open:
            number = self._next.get(model, 0) + 1
            path = self.folder / model / f"{number:012}{_SUFFIX}"
            path.parent.mkdir(exist_ok=True)
            self._open[model], self._next[model] = (path, path.open("ab", buffering=0)), number
        _, file = self._open[model]
        start = file.tell()
        try:
            written = file.write(whole := _HEAD.pack(len(chunk), zlib.crc32(chunk)) + chunk)
            if written != len(whole):
                raise OSError("no room")
        except OSError:
            file.truncate(start)
            return False
        with self._counting:
            self.bytes += len(whole)
        return True

    def seal(self) -> None:
        """What is written from here on goes into new segments."""
        sealed, self._open = self._open, {}
        for _, file in sealed.values():
            file.close()

    def segments(self) -> dict[str, list[Path]]:
        """The segments of each model that are not open, the oldest first."""
        open_now = {path for path, _ in [*self._open.values()]}
        found: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.glob(f"*/*{_SUFFIX}")):
            if path not in open_now:
                found[path.parent.name].append(path)
        return found

    def remove(self, path: Path) -> None:
        """This segment is committed."""
        size = path.stat().st_size
        path.unlink()
        with self._counting:
            self.bytes -= size

    def close(self) -> None:
        """Let go of the folder; it goes away where nothing is left in it."""
        self.seal()
        empty = not self.segments()
        self.counters.close()
        if empty:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def number_of(segment: Path) -> int:
    """The number of a segment."""
    return int(segment.stem)


def read(segment: Path) -> list[pl.DataFrame]:
    """The chunks of a segment, up to where its process was killed in the middle of one."""
    body, at, chunks = memoryview(segment.read_bytes()), 0, []
    while at + _HEAD.size <= len(body):
        length, checksum = _HEAD.unpack_from(body, at)
        chunk = body[at + _HEAD.size : at + _HEAD.size + length]
        if len(chunk) < length or zlib.crc32(chunk) != checksum:
            break
        chunks.append(pl.read_ipc_stream(io.BytesIO(chunk)))
        at += _HEAD.size + length
    return chunks


def _own(folder: Path) -> int | None:
    """A lock on the folder, made where it is missing; None where another process has it."""
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # who looks for folders of the dead has removed the empty one
            if (lock := _locked(folder)) is not None:
                return lock
        time.sleep(0.01)
    return None


def _locked(folder: Path) -> int | None:
    """A lock on the folder that ends with this process; None where another holds it, or has removed the folder meanwhile."""
    path = folder / _LOCK
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except OSError:
        pass
    os.close(file)
    return None
