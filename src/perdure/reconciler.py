"""Makes outside things equal to rows, every few seconds and after any restart: MLflow, orphaned jobs, terminated runs.

Rows decide; MLflow has neither compare-and-set nor fences, so it is a projection that is repaired, never asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar
from uuid import UUID

from perdure.errors import PerdureError, Transient
from perdure.messages.common import Json
from perdure.messages.jobs import JobStatus
from perdure.messages.pipeline import RunState
from perdure.ports import Compute, PendingMetrics, PendingRelease, PendingRun, PendingVersion, Projections, Runs, Steps
from perdure.registry import Looks

FAILED, VANISHED = "failed", "gone"  # of what `Executions.ended_as` says
GONE = 60.0  # seconds after which a job that no engine knows has lost its worker: a live one stops it within seconds
SHORTEST, LONGEST = 4.0, 900.0  # seconds after which what MLflow refuses is tried again

log = logging.getLogger("perdure.reconciler")
_Pending = TypeVar("_Pending")


class Registry(Protocol):
    """What the reconciler needs of MLflow."""

    def push_run(self, run: PendingRun) -> str:
        """The run; returns its id there."""

    def push_metrics(self, metrics: PendingMetrics) -> None:
        """Training metrics."""

    def push_version(self, pending: PendingVersion) -> str:
        """The version; returns its number there."""

    def push_release(self, release: PendingRelease) -> None:
        """The alias of the version that serves."""


class Executions(Protocol):
    """What the reconciler needs of Temporal."""

    def ended_as(self, workflow_id: str) -> str | None:
        """How the workflow ended (``terminated``, ``timed out``, ``gone``, …), or None while it runs. Raises TemporalUnavailable."""

    def failure(self, workflow_id: str) -> Json | None:
        """The error with which the workflow failed, in the shape of `PerdureError.as_dict`, if it told one. Raises TemporalUnavailable."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass did: objects pushed or stopped, models put right in MLflow's registry, and parts of the pass that failed."""

    done: int
    repaired: int
    failed: int


class Reconciler:
    """One pass at a time; every part of a pass is idempotent, so two reconcilers only do the same work twice."""

    def __init__(
        self,
        runs: Runs,
        steps: Steps,
        projections: Projections,
        executions: Executions,
        registry: Registry | None,
        engines: list[Compute],
        looks: Looks | None = None,
    ) -> None:
        self._runs, self._steps, self._rows = runs, steps, projections
        self._executions, self._registry, self._engines = executions, registry, engines
        self._looks = looks
        self._suspects: set[UUID] = set()
        self._unknown: dict[str, float] = {}  # jobs that no engine here knows, and since when
        self._failing: dict[UUID, tuple[float, float]] = {}  # what MLflow refuses: when it is tried again, and the pause before that

    def run_once(self) -> Pass:
        """One pass. An unreachable part ends its own share of the pass only."""
        outcomes = [self._attempt("runs", self._close_ended), self._attempt("jobs", self._stop_orphans)]
        if self._registry is not None:
            registry = self._registry
            outcomes.append(self._attempt("mlflow", lambda: self._project(registry)))
        looked = self._attempt("registry", self._looks.run_once) if self._looks is not None else 0
        done = sum(done for done in outcomes if done is not None)
        return Pass(done=done, repaired=looked or 0, failed=[*outcomes, looked].count(None))

    def _attempt(self, what: str, work: Callable[[], int]) -> int | None:
        try:
            return work()
        except Transient as err:
            log.warning("waiting for %s", err.part, extra={"work": what, "error": err.problem})
        except PerdureError as err:
            log.error("cannot reconcile", extra={"work": what, "error": err.problem, "remedy": err.remedy})
        except Exception:
            log.exception("cannot reconcile", extra={"work": what})
        return None

    def _close_ended(self) -> int:
        """Close runs whose workflow ended without closing its rows: terminated, timed out, or deleted.

        A run is closed at the second pass that finds it so: a workflow that is just ending closes its own rows.
        """
        live = {run: workflow_id for run, workflow_id, _ in self._runs.live()}
        ended = {run: how for run, workflow_id in live.items() if (how := self._executions.ended_as(workflow_id)) is not None}
        certain = self._suspects & set(ended)
        for run in certain:
            failure = self._executions.failure(live[run]) if ended[run] == FAILED else None
            self._runs.close(run, RunState.FAILED if failure else RunState.TERMINATED, failure or _ending(ended[run]))
            log.info("closed a run whose workflow had ended", extra={"run": str(run), "as": ended[run]})
        self._suspects = set(ended) - certain
        return len(certain)

    def _stop_orphans(self) -> int:
        """Stop the jobs of steps that have ended without them: a terminated run runs no clean-up of its own.

        A job that no engine here knows is a local one: the worker that holds it stops it and closes its row (`perdure.workers.orphans`).
        """
        orphans = self._steps.orphans()
        now = time.monotonic()
        self._unknown = {orphan.job_id: self._unknown.get(orphan.job_id, now) for orphan in orphans}
        done, away = 0, None
        for orphan in orphans:
            try:
                knowing = [engine for engine in self._engines if engine.state(orphan.job_id).status is not JobStatus.UNKNOWN]
                for engine in knowing:
                    engine.stop(orphan.job_id)
            except Transient as err:
                away = err
                continue
            if knowing:
                reason = "its step has ended"
            elif now - self._unknown[orphan.job_id] >= GONE:
                reason = "its step has ended, and its worker or engine is gone"
            else:
                continue
            self._steps.end_submission(orphan.step_run, orphan.name, orphan.number, "stopped", None, reason, orphan.round)
            log.info("closed an orphaned job", extra={"job": orphan.job_id, "reason": reason})
            done += 1
        if away is not None:
            raise away  # what could be done is done; the pass says that this part is not
        return done

    def _project(self, registry: Registry) -> int:
        """Runs first: metrics, versions and releases hang on them."""
        rows = self._rows

        def run(pending: PendingRun) -> None:
            rows.pushed("run", pending.id, pending.digest, registry.push_run(pending))

        def metrics(pending: PendingMetrics) -> None:
            registry.push_metrics(pending)
            rows.pushed("metric", pending.step_run, pending.digest)

        def version(pending: PendingVersion) -> None:
            rows.pushed("model_version", pending.version.id, pending.digest, registry.push_version(pending))

        def release(pending: PendingRelease) -> None:
            registry.push_release(pending)
            rows.pushed("release", pending.release.id, pending.digest)

        now = time.monotonic()
        resting = {id for id, (due, _) in self._failing.items() if due > now}
        return (
            self._each(rows.runs(besides=resting), run, lambda one: one.id)
            + self._each(rows.metrics(besides=resting), metrics, lambda one: one.step_run)
            + self._each(rows.versions(besides=resting), version, lambda one: one.version.id)
            + self._each(rows.releases(besides=resting), release, lambda one: one.release.id)
        )

    def _each(self, pending: list[_Pending], push: Callable[[_Pending], None], name: Callable[[_Pending], UUID]) -> int:
        """Push one after the other. What cannot be pushed is reported and tried again, less and less often, and holds up no other."""
        done = 0
        for one in pending:
            try:
                push(one)
                self._failing.pop(name(one), None)
                done += 1
            except Transient:
                raise
            except Exception:
                pause = min(LONGEST, 2 * self._failing.get(name(one), (0.0, SHORTEST / 2))[1])
                self._failing[name(one)] = (time.monotonic() + pause, pause)
                log.exception("cannot be projected", extra={"object": type(one).__name__, "id": str(name(one))})
        return done


def _ending(how: str) -> Json:
    """The error of a run whose workflow ended in this way without telling one."""
    if how == VANISHED:
        message = "the workflow is gone from Temporal: it was deleted, or had ended longer ago than its namespace keeps"
        remedy = "start a new run: what was committed is reused"
    else:
        message = f"the workflow ended without closing its run: {how}"
        remedy = "`temporal workflow reset` goes on with it; or start a new run: what was committed is reused"
    return {"type": "Terminated", "message": message, "field": None, "remedy": remedy}
