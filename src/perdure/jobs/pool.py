"""A warm process that runs one job after another: a line comes in for each, and its exit code goes out (`perdure.adapters.local_jobs`).

What jobs and the owner's code print goes to standard error, so that it cannot be taken for an answer.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import sys

from perdure.jobs.main import run_job
from perdure.jobs.node import die_with_parent, first_to_go
from perdure.messages.common import ArtifactRef


def serve() -> None:
    """Answer each ``{"uri", "sha256"}`` line with a line that holds the job's exit code, until standard input ends."""
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed before a crash is worth most
    faulthandler.enable()
    for line in requests:
        exit_code = run_job(ArtifactRef(**json.loads(line)))
        sys.stdout.flush()
        sys.stderr.flush()
        print(exit_code, file=answers, flush=True)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    first_to_go()
    import polars  # noqa: F401  # while nobody waits for it yet

    serve()
    os._exit(0)  # the owner's threads and exit handlers do not matter any more
