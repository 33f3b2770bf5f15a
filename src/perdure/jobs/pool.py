"""A warm process that runs one job after another: a line comes in for each, and its exit code goes out (`perdure.adapters.local_jobs`).

What jobs and the owner's code print goes to standard error, so that it cannot be taken for an answer.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import os
import select
import sys
from contextlib import suppress
from typing import TextIO

from perdure.jobs.main import run_job
from perdure.jobs.node import die_with_parent, first_to_go
from perdure.messages.common import ArtifactRef

_COMMON = ("polars", "perdure.jobs.preparation", "pandera.polars")  # what most jobs import


def serve() -> None:
    """Answer each ``{"uri", "sha256"}`` line with a line that holds the job's exit code, until standard input ends."""
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed before a crash is worth most
    faulthandler.enable()
    _warm_up(requests)
    for line in requests:
        exit_code = run_job(ArtifactRef(**json.loads(line)))
        sys.stdout.flush()
        sys.stderr.flush()
        print(exit_code, file=answers, flush=True)


def _warm_up(requests: TextIO) -> None:
    """Import what jobs commonly need, as long as none waits."""
    for module in _COMMON:
        if select.select([requests], [], [], 0)[0]:
            return
        with suppress(ImportError):  # the job that needs it says so
            importlib.import_module(module)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    first_to_go()
    serve()
    os._exit(0)  # the owner's threads and exit handlers do not matter any more
