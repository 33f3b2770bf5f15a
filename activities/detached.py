"""Jobs that belong to no run: a look at a served model. Their directory on S3 is all that is known of them, so any attempt may go on."""

from __future__ import annotations

import time

from temporalio import activity

from perdure.activities.guard import pulse, stop_if_asked
from perdure.errors import JobCrashed, JobStalled, from_dict
from perdure.messages.common import Json
from perdure.messages.jobs import EXIT_ERROR, JobRequest, JobStatus, Submission
from perdure.ports import Compute, JobFiles
from perdure.printed import printed_error

CRASHES = 3  # deaths in a row, in this attempt, that are the job's own fault
LOOK = 1.0  # seconds between looks at S3
POLL = 0.03  # seconds between looks at the engine


class DetachedJobs:
    """Runs a job to its end, named by what it computes: who asks for the same again gets its result."""

    def __init__(self, files: JobFiles, compute: Compute) -> None:
        self._files, self._compute = files, compute
        self._died = ""

    def run(self, request: JobRequest, stall: float, setting: str) -> Json:
        """The job's result. It is stopped after *stall* seconds without progress. Raises its own typed error, JobCrashed, JobStalled."""
        for number in range(1, CRASHES + 1):
            if (result := self._attempt(request, f"perdure-{request.job}-{activity.info().attempt}-{number}", stall, setting)) is not None:
                return result
        raise JobCrashed(
            f"the job {request.job} died {CRASHES} times: {self._died}",
            field=str(request.kind),
            remedy="look for too little memory, or a native crash in the model's code",
        )

    def _attempt(self, request: JobRequest, name: str, stall: float, setting: str) -> Json | None:
        """The result; None where the process died."""
        if (found := self._files.latest(request.job)).result is not None:
            return found.result
        self._files.reopen(request.job)
        code = request.code.sha256 if request.code else None
        self._compute.submit(Submission(id=name, request=self._files.put_request(request), resources=request.resources, code=code))
        seen, moved, looked = None, time.monotonic(), 0.0
        try:
            while (state := self._compute.state(name)).status.is_active:
                stop_if_asked()
                if time.monotonic() - looked >= LOOK:
                    found = self._files.latest(request.job)
                    status = self._files.status(request.job, found.epoch) if found.epoch else {}
                    pulse().ok(job=name)
                    looked = time.monotonic()
                    if (found.epoch, status) != seen or state.status is JobStatus.PENDING:
                        seen, moved = (found.epoch, status), looked
                    elif looked - moved > stall:
                        raise JobStalled(f"the job {name} stood still", field=setting, remedy=f"raise {setting} if it only needs more time")
                time.sleep(POLL)
        except BaseException:
            self._compute.stop(name)
            raise
        latest = self._files.latest(request.job)
        if latest.error is not None:
            raise from_dict(latest.error)
        printed = printed_error(self._compute.logs(name))
        if latest.result is None and printed is not None and state.exit_code == EXIT_ERROR:
            raise printed
        self._died = state.message or f"exit code {state.exit_code}"
        return latest.result
