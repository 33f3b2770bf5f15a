"""A predictor in a process of its own: owner's code that hangs, crashes or fills the memory takes nobody with it.

One call at a time. A process that died, or did not answer in time, is replaced at the next call.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from perdure.errors import ModelUnavailable
from perdure.predictor import InfiniteFeature, InputMismatch, NotExplainable, OwnerCodeError, PredictorError

HEADER = struct.Struct("!cQ")
"""A kind and the length of what follows."""
PREDICT, EXPLAIN, GOOD = b"p", b"e", b"g"
ERRORS: dict[bytes, type[PredictorError]] = {
    b"i": InputMismatch,
    b"f": InfiniteFeature,
    b"o": OwnerCodeError,
    b"n": NotExplainable,
    b"x": PredictorError,
}
LOAD_SECONDS = 120.0
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_NUM_THREADS")


class IsolatedPredictor:
    """What `perdure.predictor.Predictor` offers to serving, asked of a child process. Raises ModelUnavailable where it cannot answer."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        with zipfile.ZipFile(path) as archive:
            self.about: dict[str, Any] = json.loads(archive.read("predictor.json"))
        self.schema, self.features, self.classes = self.about["schema"], self.about["features"], self.about["classes"]
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="isolated-")
        with self._lock:
            self._started()  # what cannot be loaded is known at once

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Scores, as `Predictor.predict` gives them."""
        return pl.read_ipc(io.BytesIO(self._ask(PREDICT, frame)))

    def explain(self, frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Contributions, as `Predictor.explain` gives them."""
        made: np.ndarray[Any, np.dtype[np.float32]] = np.load(io.BytesIO(self._ask(EXPLAIN, frame)), allow_pickle=False)
        return made

    def close(self) -> None:
        """End the process."""
        self._end()
        self._folder.cleanup()

    def _ask(self, what: bytes, frame: pl.DataFrame) -> bytes:
        body = io.BytesIO()
        frame.write_ipc(body)
        with self._lock:
            line = self._started()
            line.settimeout(self._seconds)
            try:
                write(line, what, body.getvalue())
                kind, answer = read(line)
            except TimeoutError:
                self._end()
                raise ModelUnavailable(
                    f"the owner's code did not answer within {self._seconds:g} s", remedy="see what it waits for; raise serving.timeout"
                ) from None
            except (OSError, EOFError):
                raise ModelUnavailable(f"the process of the owner's code ended ({self._end()})", remedy="see the process's log") from None
        return _good(kind, answer)

    def _started(self) -> socket.socket:
        if self._line is not None and self._child is not None and self._child.poll() is None:
            return self._line
        self._end()
        self._line, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "perdure.serving.child", str(self._path)],
                stdin=theirs.fileno(),
                stdout=2,
                env={name: os.environ[name] for name in _PASSED if name in os.environ},  # no secret of ours
                cwd=self._folder.name,
            )
        self._line.settimeout(LOAD_SECONDS)
        try:
            kind, answer = read(self._line)
            _good(kind, answer)
        except (OSError, EOFError):
            raise ModelUnavailable(f"the process of the owner's code did not start ({self._end()})") from None
        except PredictorError:
            self._end()
            raise
        return self._line

    def _end(self) -> str:
        """How it ended."""
        child, line, self._child, self._line = self._child, self._line, None, None
        if line is not None:
            line.close()
        if child is None:
            return "it was not running"
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)  # one that ended by itself says how
        ended = child.poll()
        child.kill()
        child.wait()
        return f"exit code {ended}" if ended is not None else "it was killed"


def write(line: socket.socket, kind: bytes, body: bytes) -> None:
    """Send one message."""
    line.sendall(HEADER.pack(kind, len(body)))
    line.sendall(body)


def read(line: socket.socket) -> tuple[bytes, bytes]:
    """The next message. Raises EOFError where there is none."""
    kind, size = HEADER.unpack(_exactly(line, HEADER.size))
    return kind, _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = line.recv(min(1 << 20, size - len(parts)))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _good(kind: bytes, answer: bytes) -> bytes:
    if kind != GOOD:
        raise ERRORS[kind](answer.decode())
    return answer
