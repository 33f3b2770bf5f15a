"""Makes outside things equal to rows, every few seconds and after any restart: MLflow, orphaned jobs, terminated runs.

Rows decide; MLflow has neither compare-and-set nor fences, so it is a projection that is repaired, never asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from perdure.errors import PerdureError, Transient
from perdure.ports import Compute, PendingMetrics, PendingRelease, PendingRun, PendingVersion, Projections, Steps

log = logging.getLogger("perdure.reconciler")


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


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What one pass did: objects pushed or stopped, objects that could not be."""

    done: int
    failed: int


class Reconciler:
    """One pass at a time; every part of a pass is idempotent, so two reconcilers only do the same work twice."""

    def __init__(self, projections: Projections, registry: Registry | None, steps: Steps, engines: list[Compute]) -> None:
        self._rows, self._registry, self._steps, self._engines = projections, registry, steps, engines

    def run_once(self) -> Pass:
        """One pass. An unreachable part ends its own share of the pass only."""
        outcomes = [self._attempt("jobs", self._stop_orphans)]
        if self._registry is not None:
            registry = self._registry
            outcomes.append(self._attempt("mlflow", lambda: self._project(registry)))
        return Pass(done=sum(done for done in outcomes if done is not None), failed=outcomes.count(None))

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

    def _stop_orphans(self) -> int:
        """Stop the jobs of steps that have ended without them: a terminated run runs no clean-up of its own."""
        orphans = self._steps.orphans()
        for orphan in orphans:
            for engine in self._engines:
                engine.stop(orphan.job_id)
            self._steps.end_submission(orphan.step_run, orphan.name, orphan.number, "stopped", None, "its step has ended", orphan.round)
            log.info("stopped an orphaned job", extra={"job": orphan.job_id})
        return len(orphans)

    def _project(self, registry: Registry) -> int:
        """Runs first: metrics, versions and releases hang on them."""
        done = 0
        for run in self._rows.runs():
            self._rows.pushed("run", run.id, run.digest, registry.push_run(run))
            done += 1
        for metrics in self._rows.metrics():
            registry.push_metrics(metrics)
            self._rows.pushed("metric", metrics.step_run, metrics.digest)
            done += 1
        for version in self._rows.versions():
            self._rows.pushed("model_version", version.version.id, version.digest, registry.push_version(version))
            done += 1
        for release in self._rows.releases():
            registry.push_release(release)
            self._rows.pushed("release", release.release.id, release.digest)
            done += 1
        return done
