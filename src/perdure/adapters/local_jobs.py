"""Port `Compute` on processes of this machine: warm ones, each bound to one version of the owner's code once it has run it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from perdure.adapters.job_process import JobProcess, describe_exit, kill_below
from perdure.config import Settings, resolve_secret
from perdure.jobs.usercode import disk_full, no_room
from perdure.messages.jobs import EXIT_ERROR, EXIT_FENCED, EXIT_PAUSED, JobState, JobStatus, Submission
from perdure.printed import error_line

IDLE_SECONDS = 300.0
_REMEMBERED = 1_000  # ended submissions
_LOG_BYTES = 64 << 10  # kept of a submission's output
_SPEAKING = (0, EXIT_ERROR, EXIT_FENCED, EXIT_PAUSED)
_CROWDED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # the machine has no room for a process now
_PAUSE = 1.0  # seconds until a process is started again where there was no room


def job_environment(settings: Settings) -> dict[str, str]:
    """The variables by which a job finds S3, credentials included, and where it may keep what it fetched."""
    s3 = settings.s3
    named = {"PERDURE_S3__REGION": s3.region, "PERDURE_S3__BUCKET": s3.bucket, "PERDURE_CACHE": str(settings.home.absolute() / "cache")}
    if s3.endpoint:
        named["PERDURE_S3__ENDPOINT"] = s3.endpoint
    if s3.access_key and s3.secret_key:
        named |= {
            "AWS_ACCESS_KEY_ID": resolve_secret(s3.access_key),
            "AWS_SECRET_ACCESS_KEY": resolve_secret(s3.secret_key),
            "PERDURE_S3__ACCESS_KEY": "env:AWS_ACCESS_KEY_ID",
            "PERDURE_S3__SECRET_KEY": "env:AWS_SECRET_ACCESS_KEY",
        }
    return named


@dataclass(eq=False)
class _Job:
    submission: Submission
    status: JobStatus = JobStatus.PENDING
    exit_code: int | None = None
    message: str = ""
    log: bytearray = field(default_factory=bytearray)
    process: JobProcess | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def print(self, data: bytes) -> None:
        """Keep the end of what was printed."""
        self.log += data
        del self.log[:-_LOG_BYTES]

    def end(self, status: JobStatus) -> None:
        """It will not change again."""
        self.status = status
        self.ended.set()


class LocalJobs:
    """At most ``settings.worker.processes`` jobs at once; more wait in order. What it knows is gone with the worker, as are its jobs."""

    def __init__(self, settings: Settings) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "TEMPORAL_"))}
        self._scratch = settings.home.absolute() / "scratch"
        _remove_stale(self._scratch)
        # No settings file is found from there: a job is told of S3 and of nothing else.
        self._environment = {**kept, **job_environment(settings), "PERDURE_HOME": str(self._scratch / str(os.getpid()))}
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[_Job] = deque()
        self._idle: list[JobProcess | None] = [None] * settings.worker.processes  # what runners without a job hold
        self._changed = threading.Condition()
        self._submitted = 0
        self._closed = False
        # One thread per process for ever: the kernel ends a process with the thread that started it (PDEATHSIG).
        self._runners = [threading.Thread(target=self._run_jobs, name=f"job-{i}", daemon=True) for i in range(settings.worker.processes)]
        for runner in self._runners:
            runner.start()

    # --- port Compute ------------------------------------------------------------------------------------------------

    def submit(self, submission: Submission) -> None:
        """Queue the job; a known id is a no-op."""
        with self._changed:
            if submission.id in self._jobs:
                return
            ended = [id for id, job in self._jobs.items() if job.ended.is_set()]
            for id in ended[: max(0, len(ended) - _REMEMBERED)]:
                del self._jobs[id]
            self._jobs[submission.id] = job = _Job(submission)
            self._queue.append(job)
            self._submitted += 1
            self._changed.notify_all()

    def state(self, submission_id: str) -> JobState:
        """One look."""
        with self._changed:
            job = self._jobs.get(submission_id)
            if job is None:
                return JobState(status=JobStatus.UNKNOWN)
            return JobState(status=job.status, exit_code=job.exit_code, message=job.message)

    def stop(self, submission_id: str) -> None:
        """Kill it with every process that it started, and wait until they are gone; unknown and ended ids are a no-op."""
        with self._changed:
            job = self._jobs.get(submission_id)
            if job is None or job.ended.is_set():
                return
            if job in self._queue:
                self._queue.remove(job)
                job.end(JobStatus.STOPPED)
                return
            job.status = JobStatus.STOPPED
            if job.process is not None:
                job.process.kill()
        job.ended.wait()

    def logs(self, submission_id: str) -> str:
        """The end of its output, at most 64 KiB."""
        with self._changed:
            job = self._jobs.get(submission_id)
            return bytes(job.log).decode(errors="replace") if job else ""

    def active(self) -> list[str]:
        """Ids of the submissions that have not ended."""
        with self._changed:
            return [id for id, job in self._jobs.items() if not job.ended.is_set()]

    def close(self) -> None:
        """Kill all jobs and processes. They count as unknown afterwards: whoever looks next submits again."""
        with self._changed:
            self._closed = True
            running = [job.process for job in self._jobs.values() if job.process is not None]
            self._queue.clear()
            self._changed.notify_all()
        for process in running:
            process.kill()
        for runner in self._runners:
            runner.join()
        self._jobs.clear()
        shutil.rmtree(self._scratch / str(os.getpid()), ignore_errors=True)

    # --- runners -----------------------------------------------------------------------------------------------------

    def _run_jobs(self) -> None:
        """Take jobs from the queue, one at a time, and run each in this thread's process."""
        process: JobProcess | None = None
        while True:
            job = self._next(process)
            if self._closed:
                break
            if process is not None and (job is None or not process.fits(job.submission.code)):
                process.discard()
                process = None
                if job is None:
                    self._free(None)
                    continue
            if process is None:
                try:
                    process = JobProcess(self._environment, self._scratch / str(os.getpid()))
                except OSError as err:
                    self._refuse(job, err)
                    continue
            if job is None:
                self._free(process)
            elif not self._run(job, process):
                process = None
        if process is not None:
            process.discard()

    def _next(self, process: JobProcess | None) -> _Job | None:
        """The next job for a runner that holds *process*, which is taken out of the idle ones. A job goes to the process that fits it best.

        None: close; or nothing to do for a long time; or, where there is no process yet, somebody else got the job that woke this
        runner, and a process should be made ready for the next one.
        """
        with self._changed:
            submitted = self._submitted
            waiting = True
            while waiting and not self._closed:
                for job in self._queue:
                    code = job.submission.code
                    if _distance(process, code) == min(_distance(each, code) for each in self._idle):
                        self._queue.remove(job)
                        self._idle.remove(process)
                        self._changed.notify_all()
                        return job
                if process is None and submitted != self._submitted:
                    break
                waiting = self._changed.wait(IDLE_SECONDS if process else None)
            self._idle.remove(process)
            return None

    def _free(self, process: JobProcess | None) -> None:
        """A runner that holds *process* has no job."""
        with self._changed:
            self._idle.append(process)

    def _run(self, job: _Job, process: JobProcess) -> bool:
        """Run *job* to its end; whether the process can be used again."""
        with self._changed:
            job.process = process
            if job.status is JobStatus.STOPPED or self._closed:
                process.kill()
            else:
                job.status, job.message = JobStatus.RUNNING, ""
        answer = process.run(job.submission, job.print)
        with self._changed:
            job.process = None  # `stop` does not kill it from here on
            usable = answer is not None and job.status is not JobStatus.STOPPED and process.fits(job.submission.code)
        if not usable:
            process.discard()
        with self._changed:  # at once: whoever sees the end and submits the next job finds this process idle
            self._idle.append(process if usable else None)
            self._end(job, process.exit_code if answer is None else answer)
        return usable

    def _refuse(self, job: _Job | None, err: OSError) -> None:
        """No process can be started. A crowded machine may have room soon, so that the job waits; a full disk is the job's error."""
        with self._changed:
            if job is None or (err.errno in _CROWDED and job.status is JobStatus.PENDING):
                if job is not None:
                    job.message = f"room for a process on the worker's machine: {err}"
                    self._queue.appendleft(job)
                    self._changed.notify_all()  # another runner may have a process
                self._changed.wait_for(lambda: self._closed, _PAUSE)
                self._idle.append(None)
                return
            self._idle.append(None)
            job.message = f"no process could be started: {err}"
            if disk_full(err):
                job.exit_code = EXIT_ERROR
                job.print(f"{error_line(no_room('a process was started'))}\n".encode())
            job.end(JobStatus.STOPPED if job.status is JobStatus.STOPPED else JobStatus.FAILED)

    def _end(self, job: _Job, code: int) -> None:
        job.exit_code = code
        if code not in _SPEAKING:
            job.message = f"{describe_exit(code)}\n{bytes(job.log[-2_000:]).decode(errors='replace')}".strip()
        if job.status is JobStatus.STOPPED:
            job.end(JobStatus.STOPPED)
        else:
            job.end(JobStatus.SUCCEEDED if code == 0 else JobStatus.FAILED)


def _distance(process: JobProcess | None, code: str | None) -> int:
    """How badly *process* fits a job with *code*: it knows the code; is ready and knows none; does not exist; would have to end first."""
    if process is None:
        return 2
    return 0 if process.code == code else 1 if process.code is None else 3


def _remove_stale(scratch: Path) -> None:
    """Remove what workers that were killed left behind: files, and processes that their jobs had started."""
    for folder in scratch.glob("*"):
        try:
            os.kill(int(folder.name), 0)
        except ProcessLookupError:
            kill_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue
