"""Entry point of a job: ``python -m perdure.jobs.main REQUEST_URI REQUEST_SHA256``.

Exit codes: 0 a result or error is in ``latest``; `EXIT_ERROR` this process published an error, or printed the one with which S3 refused it;
`EXIT_FENCED`; `EXIT_PAUSED`; anything else: the job may be tried again (an unreachable part, which is printed, or a mistake in Perdure's
own code, whose traceback is in the log).
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import urlparse

from perdure.adapters.s3 import ObjectStore
from perdure.errors import PerdureError, Permanent, Transient
from perdure.jobs import scratch, usercode
from perdure.jobs.context import JobContext
from perdure.jobs.latest import Fenced, Paused, RunState, ended, load_request
from perdure.jobs.node import die_with_parent, first_to_go, object_store
from perdure.jobs.status import StatusWriter
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import EXIT_ERROR, EXIT_FENCED, EXIT_PAUSED, JobKind, JobRequest
from perdure.printed import error_line
from perdure.spec import pipeline as spec

EXIT_AGAIN = 1


def run_job(request: ArtifactRef) -> int:
    """Run the job of *request* in this process; returns its exit code."""
    started = time.monotonic()
    try:
        objects = object_store(urlparse(request.uri).netloc)
        code = _run(objects, load_request(objects, request))
    except Permanent as err:
        print(error_line(err), flush=True)
        code = EXIT_ERROR
    except Transient as err:
        traceback.print_exc()
        print(error_line(err), flush=True)
        code = EXIT_AGAIN
    except Exception:
        traceback.print_exc()
        code = EXIT_AGAIN
    print(f"exit code {code} after {time.monotonic() - started:.2f} s", flush=True)
    return code


def _run(objects: ObjectStore, request: JobRequest) -> int:
    run = RunState(objects, request.job)
    try:
        # The owner is unique, so that a repeated compare-and-swap knows its own first try.
        if ended(run.acquire(f"{socket.gethostname()}/{os.getpid()}/{time.time_ns()}")):
            print(f"job {request.job} has ended already", flush=True)
            return 0
        print(f"job {request.job} ({request.kind}), epoch {run.epoch}, pid {os.getpid()}", flush=True)
        try:
            run.publish_result(_work(objects, request, run))
        except Permanent as err:
            print(err.message, flush=True)
            run.publish_error(err)
            return EXIT_ERROR
    except Fenced as fenced:
        print(f"fenced: {fenced}", flush=True)
        return EXIT_FENCED
    except Paused as paused:
        print(f"paused: {paused}", flush=True)
        return EXIT_PAUSED
    return 0


def _work(objects: ObjectStore, request: JobRequest, run: RunState) -> dict[str, Any]:
    """The result of the job's function; what it runs out of is a typed error."""
    with scratch.folder() as folder, StatusWriter(run) as status:
        context = JobContext(request, spec.load(request.spec, "spec"), objects, run, folder, status)
        try:
            return _function(request.kind)(context)
        except PerdureError:
            raise
        except MemoryError as err:
            raise usercode.out_of_memory(f"the {request.kind} job") from err
        except Exception as err:
            if usercode.disk_full(err):
                raise usercode.no_room(f"the {request.kind} job") from err
            raise


def _function(kind: JobKind) -> Callable[[JobContext], dict[str, Any]]:
    module, name = kind.value.split(".")
    function: Callable[[JobContext], dict[str, Any]] = getattr(importlib.import_module(f"perdure.jobs.{module}"), name)
    return function


def main() -> int:
    """Run the job that the command line names."""
    die_with_parent()
    first_to_go()
    uri, sha256 = sys.argv[1:]
    return run_job(ArtifactRef(uri=uri, sha256=sha256))


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # the owner's threads or exit handlers cannot hold the job up, nor change its code
