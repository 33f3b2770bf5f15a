"""A worker's own orphans: local jobs whose step has ended without them. Nobody else reaches them, so their worker stops them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from perdure.adapters.local_jobs import LocalJobs
from perdure.errors import Transient
from perdure.ports import Steps

EVERY = 2.0  # seconds between looks

log = logging.getLogger("perdure.workers.orphans")


@contextlib.contextmanager
def stopping_orphans(steps: Steps, jobs: LocalJobs) -> Iterator[None]:
    """Stop orphans as long as this lasts.

    The attempts that watch jobs are no help: when a workflow is terminated, its attempts are given up before its rows are closed.
    """
    closing = threading.Event()

    def watch() -> None:
        while not closing.wait(EVERY):
            try:
                stop_orphans(steps, jobs)
            except Transient as err:
                log.debug("waiting for %s", err.part)
            except Exception:
                log.exception("cannot look for orphans")

    thread = threading.Thread(target=watch, name="orphans", daemon=True)
    thread.start()
    try:
        yield
    finally:
        closing.set()
        thread.join()


def stop_orphans(steps: Steps, jobs: LocalJobs) -> None:
    """Stop the local jobs that are not wanted any more, and close their rows. A step that was reopened submits again."""
    if not (held := jobs.active()):
        return
    for row in steps.unwanted(held):
        jobs.stop(row.job_id)
        steps.end_submission(row.step_run, row.name, row.number, "stopped", None, "its step has ended", None)
        log.info("stopped an orphaned job", extra={"job": row.job_id})
