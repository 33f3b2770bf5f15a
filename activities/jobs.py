"""Runs one job to its end: find, attach, submit, watch, resubmit. Every attempt of every activity may do so at once.

What decides is on S3 (``latest``: result, error, paused), never what the compute engine or an earlier attempt believes. Which attempt
submits is settled by inserting the submission's row; the others attach to the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from perdure.activities.guard import pulse, stop_if_asked
from perdure.errors import JobCrashed, JobStalled, PatienceExhausted, PerdureError, Transient, bounded, from_dict
from perdure.messages.common import Json
from perdure.messages.jobs import (
    EXIT_ERROR,
    EXIT_FENCED,
    ControlCommand,
    Engine,
    JobRequest,
    JobState,
    JobStatus,
    Latest,
    Submission,
)
from perdure.ports import Compute, JobFiles, Run, Steps, SubmissionRow
from perdure.printed import printed_error

CRASHES = 3  # submissions in a row that died or stood still at the same round: the job's own fault, not a machine's
LOOK = 1.0  # seconds between looks at S3 and reports to Postgres while a job runs
POLL = {Engine.LOCAL: 0.03, Engine.RAY: 0.5}  # seconds between looks at the engine


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended: with a result, or paused at a checkpoint."""

    result: Json | None
    latest: Latest
    submissions: int


@dataclass(kw_only=True)
class Watched:
    """A job as a step wants it run. ``on_look`` copies checkpoints and progress into rows; ``obeys_pause`` only jobs with checkpoints.

    ``setting`` is the field of the specification from which ``stall`` comes.
    """

    step_run: UUID
    name: str
    request: JobRequest
    engine: Engine
    stall: timedelta
    setting: str
    obeys_pause: bool = False
    on_look: Callable[[Latest, Json], None] | None = None
    detail: Json = field(default_factory=dict)


class JobRunner:
    """The one loop that watches jobs."""

    def __init__(self, steps: Steps, files: JobFiles, engines: Mapping[Engine, Compute]) -> None:
        self._steps, self._files, self._engines = steps, files, engines

    def run(self, job: Watched) -> JobEnd:
        """The job's end. Raises the job's own typed error, or `Transient`.

        After three deaths without progress also `JobCrashed`, `JobStalled` or `PatienceExhausted`: what the last one died of.
        """
        return _Watch(job, self._steps, self._files, self._engines[job.engine]).run()


class _Watch:
    def __init__(self, job: Watched, steps: Steps, files: JobFiles, compute: Compute) -> None:
        self.job, self.steps, self.files, self.compute = job, steps, files, compute
        self.name = job.request.job
        self.looked = 0.0
        self.moved = time.monotonic()
        self.seen: tuple[int, Json] = (-1, {})
        self.told: ControlCommand | None = None  # what ``control`` says is not known before this attempt has written it
        self.running: set[str] = set()

    def run(self) -> JobEnd:
        try:
            return self._run()
        except Transient as err:
            self._say_waiting(err.part)
            raise
        except asyncio.CancelledError:
            if (details := activity.cancellation_details()) and details.cancel_requested:
                self._stop()  # else the attempt is given up, not the job: it belongs to the next attempt
            raise
        except ApplicationError:
            raise
        except Exception as err:
            self._say_waiting(f"another try after {bounded(f'{type(err).__name__}: {err}', 300)}")
            raise

    def _run(self) -> JobEnd:
        current = self.steps.submission(self.job.step_run, self.job.name)
        latest = self.files.latest(self.name)
        if latest.result is not None:
            return self._end(current, latest)
        if current is None or current.state != "open":  # never started, paused, or the step was reopened after an error
            self.files.reopen(self.name)
            current = self._submit(current)
        while True:
            stop_if_asked()
            state = self.compute.state(current.job_id)
            if state.status is JobStatus.UNKNOWN and current.job_id not in self.running:
                self._start(current)  # its inserter died, or its engine forgot it: the same id, so at most one starts
            elif not state.status.is_active:
                latest = self.files.latest(self.name)
                if (end := self._ended(current, latest)) is not None:
                    return end
                current = self._next(current, latest, state)
            elif time.monotonic() - self.looked >= LOOK:
                latest = self._look(current, state)
                if latest.result is not None:
                    return self._end(current, latest)
            if state.status is JobStatus.RUNNING:
                self.running.add(current.job_id)
            time.sleep(POLL[self.job.engine])

    def _look(self, current: SubmissionRow, state: JobState) -> Latest:
        """Copy progress into rows, pass on what people want, notice a job that stands still."""
        latest = self.files.latest(self.name)
        status = self.files.status(self.name, latest.epoch) if latest.epoch else {}
        self._observe(latest, status)
        pending = state.message if state.status is JobStatus.PENDING else ""
        run = self._report({**status, "submission": current.number, "job": str(state.status)}, waiting_for=pending or None)
        if self.job.obeys_pause:
            self._control(run)
        if (latest.epoch, status) != self.seen or state.status is not JobStatus.RUNNING:
            self.seen, self.moved = (latest.epoch, status), time.monotonic()
        elif time.monotonic() - self.moved > self.job.stall.total_seconds():
            activity.logger.warning("job stands still: stopping it", extra={"job": current.job_id})
            self.compute.stop(current.job_id)  # its next state is STOPPED: a new submission follows
            self._close(current, "stalled", None, f"it stood still for longer than {self.job.setting} ({self.job.stall})", latest)
            self.moved = time.monotonic()
        self.looked = time.monotonic()
        return latest

    def _observe(self, latest: Latest, status: Json) -> None:
        if self.job.on_look is not None:
            self.job.on_look(latest, status)

    def _report(self, detail: Json, waiting_for: str | None) -> Run:
        detail = {key: value for key, value in detail.items() if key != "history"}
        run = self.steps.report(self.job.step_run, {**self.job.detail, **detail}, waiting_for)
        pulse().ok(**self.job.detail, round=detail.get("round"))
        return run

    def _control(self, run: Run) -> None:
        wanted = ControlCommand.PAUSE if run.paused else ControlCommand.RUN
        if wanted is not self.told:
            self.files.control(self.name, wanted)
            self.told = wanted

    def _ended(self, current: SubmissionRow, latest: Latest) -> JobEnd | None:
        """The job's end if the submission left one in ``latest``."""
        if latest.result is not None:
            return self._end(current, latest)
        if latest.error is not None:
            self._close(current, "failed", None, str(latest.error.get("message", "")), latest)
            raise from_dict(latest.error)
        if latest.paused is not None:
            self._observe(latest, {})
            self._close(current, "stopped", None, "paused", latest)
            return JobEnd(result=None, latest=latest, submissions=current.number)
        return None

    def _end(self, current: SubmissionRow | None, latest: Latest) -> JobEnd:
        status = self.files.status(self.name, latest.epoch) if self.job.on_look else {}
        self._observe(latest, status)
        if current is not None:
            self._close(current, "succeeded", 0, "", latest)
        return JobEnd(result=latest.result, latest=latest, submissions=current.number if current else 0)

    def _next(self, current: SubmissionRow, latest: Latest, state: JobState) -> SubmissionRow:
        """Another submission after one that died; or the error that it dies of again and again."""
        crashed = state.status is JobStatus.FAILED and state.exit_code != EXIT_FENCED
        logs = self.compute.logs(current.job_id) if state.status is not JobStatus.UNKNOWN else ""
        self._close(current, "failed" if crashed else "lost", state.exit_code, state.message, latest)
        error = printed_error(logs) if crashed else None
        if error is not None and state.exit_code == EXIT_ERROR:
            raise error
        round = latest.checkpoint.round if latest.checkpoint else None
        # Those from before a reset do not count: what they died of may have been mended.
        since = activity.info().scheduled_time
        rows = [row for row in self.steps.submissions(self.job.step_run, self.job.name) if row.started_at >= since][-CRASHES:]
        if len(rows) == CRASHES and all(row.state in ("failed", "stalled") and row.round == round for row in rows):
            raise self._hopeless(rows[-1], state, logs, error)
        activity.logger.warning("job died: submitting it again", extra={"job": current.job_id, "exit_code": state.exit_code})
        return self._submit(current)

    def _hopeless(self, last: SubmissionRow, state: JobState, logs: str, error: PerdureError | None) -> PerdureError:
        """What became of a job that dies again and again: its last death decides."""
        tail = logs[-1500:]
        if last.state == "stalled":
            return JobStalled(
                f"the job stood still for longer than {self.job.stall}, and so it did {CRASHES} times without progress\n{tail}".rstrip(),
                field=self.job.setting,
                remedy=f"raise {self.job.setting} if it only needs more time; `perdure logs RUN` shows its output",
            )
        if isinstance(error, Transient):
            return PatienceExhausted(
                f"{error.part} did not answer {CRASHES} times in a row, asked from the node that runs the job: {error.problem}",
                remedy=f"see that this node reaches {error.part} as the worker does, by its own settings; committed work is reused",
            )
        how = bounded(state.message.partition("\n")[0], 300) or f"exit code {state.exit_code}"
        return JobCrashed(
            f"the job died {CRASHES} times without progress: {how}\n{tail}".rstrip(),
            field=str(self.job.request.kind),
            remedy="look for os._exit, a native crash or too little memory in your code; `perdure logs RUN` shows its output",
        )

    def _submit(self, previous: SubmissionRow | None) -> SubmissionRow:
        if previous is not None:  # the old one must be seen gone: two jobs of one step would wait for each other's resources
            self.compute.stop(previous.job_id)
        row = self.steps.next_submission(self.job.step_run, self.job.name, previous.number + 1 if previous else 1)
        self._start(row)
        return row

    def _start(self, row: SubmissionRow) -> None:
        if self.job.obeys_pause:
            self.files.control(self.name, ControlCommand.RUN)
            self.told = ControlCommand.RUN
        request = self.files.put_request(self.job.request)
        code = self.job.request.code.sha256 if self.job.request.code else None
        self.compute.submit(Submission(id=row.job_id, request=request, resources=self.job.request.resources, code=code))
        self.moved = time.monotonic()

    def _close(self, row: SubmissionRow, state: str, exit_code: int | None, message: str, latest: Latest) -> None:
        round = latest.checkpoint.round if latest.checkpoint else None
        self.steps.end_submission(self.job.step_run, self.job.name, row.number, state, exit_code, message, round)

    def _stop(self) -> None:
        current = self.steps.submission(self.job.step_run, self.job.name)
        if current is not None and current.state == "open":
            self.compute.stop(current.job_id)
            self._close(current, "stopped", None, "cancelled", self.files.latest(self.name))

    def _say_waiting(self, what: str) -> None:
        """Show people what is waited for; where Postgres itself is away, the heartbeat says so."""
        try:
            self.steps.report(self.job.step_run, self.job.detail, waiting_for=what)
        except Transient:
            activity.logger.debug("Postgres is away too")
