"""`python -m perdure.serving.child PREDICTOR`: scores what comes by the socket that is its standard input, until that is closed."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import polars as pl

from perdure.predictor import Predictor, PredictorError, load
from perdure.serving.isolated import ERRORS, EXPLAIN, GOOD, read, write

_PR_SET_PDEATHSIG = 1


def main(path: Path) -> None:
    """Load, say so, and answer."""
    if sys.platform == "linux":  # an endless loop in the owner's code would outlive us
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    line = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the owner's code must not read it
    try:
        predictor = load(path)
    except PredictorError as err:
        write(line, _kind(err), str(err).encode(errors="replace"))
        return
    write(line, GOOD, b"")
    while True:
        try:
            what, body = read(line)
        except (EOFError, OSError):
            return
        try:
            answer = _answer(predictor, what, pl.read_ipc(io.BytesIO(body)))
        except PredictorError as err:
            write(line, _kind(err), str(err).encode(errors="replace"))
        else:
            write(line, GOOD, answer)


def _answer(predictor: Predictor, what: bytes, frame: pl.DataFrame) -> bytes:
    made = io.BytesIO()
    if what == EXPLAIN:
        np.save(made, predictor.explain(frame), allow_pickle=False)
    else:
        predictor.predict(frame).write_ipc(made)
    return made.getvalue()


def _kind(error: PredictorError) -> bytes:
    return next((kind for kind, known in ERRORS.items() if type(error) is known), b"x")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
