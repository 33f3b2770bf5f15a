"""Monitoring: jobs compare what a released version is asked with what it was trained on; what they find become drift events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio import activity

from perdure.activities.detached import DetachedJobs
from perdure.errors import NotFound
from perdure.keys import digest
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.jobs import JobKind, JobRequest
from perdure.messages.monitoring import LookRequest, LookResult
from perdure.messages.retraining import DriftEvent, DriftKind
from perdure.outcomes import OutcomeFiles, Outcomes
from perdure.ports import Datasets, DatasetVersion, DriftEvents, Models, ModelVersion, PipelineVersion, Runs
from perdure.spec.monitor import Monitor
from perdure.spec.pipeline import load

SOURCE = "perdure/monitor"
TYPES = {DriftKind.DATA: "drift.data", DriftKind.LABEL: "drift.label", DriftKind.CONCEPT: "drift.prediction", DriftKind.QUALITY: "quality"}
_OF_DATA = ("training", "training-labels")  # monitors of a dataset version, not of a window


class MonitoringActivities:
    """Looks at served models."""

    def __init__(
        self,
        runs: Runs,
        models: Models,
        datasets: Datasets,
        events: DriftEvents,
        outcomes: Outcomes,
        files: OutcomeFiles,
        jobs: DetachedJobs,
        storage: str,
    ) -> None:
        self._runs, self._models, self._datasets, self._events = runs, models, datasets, events
        self._outcomes, self._files, self._jobs, self._storage = outcomes, files, jobs, storage

    @activity.defn(name="monitoring.look", no_thread_cancel_exception=True)
    def look(self, request: LookRequest) -> LookResult:
        """One look; a repeat finds the same events. Raises UserCodeError where the version cannot score its own test rows."""
        version = self._models.champion(request.model)
        if version is None:
            return LookResult(model=request.model, reason="no version of it is released")
        pipeline = self._runs.pipeline(self._runs.run(version.run_id).pipeline.name)
        wanted = load(pipeline.spec).monitor or Monitor()
        at = floored(request.at, wanted.every)
        trained = self._datasets.version(version.dataset_version)
        found, newest = self._found(pipeline, wanted, version, trained, at)
        report = ArtifactRef.from_json(found["report"])
        events = [_event(version, each, at, wanted, newest, report) for each in found["findings"]]
        self._events.record(events)
        return LookResult(
            model=version.model,
            version=version.number,
            at=at,
            drifted=[event.monitor for event in events if event.drifted],
            looked=[event.monitor for event in events],
            report=report,
            reason="" if events else f"fewer than {wanted.min_rows} rows, or it has not served for a whole window",
        )

    def _found(
        self, pipeline: PipelineVersion, wanted: Monitor, version: ModelVersion, trained: DatasetVersion, at: datetime
    ) -> tuple[Json, DatasetVersion | None]:
        """What the job found, and the newer data that it looked at."""
        newest = self._newest(trained)
        until = at - wanted.late
        told = self._files.write(self._outcomes.about(version.model, version.number, until - wanted.window, until))
        inputs = {
            "model": version.model,
            "version": version.number,
            "at": at.isoformat(),
            "outcomes": told.as_json() if told else None,
            "trained": trained.manifest.as_json(),
            "newest": newest.manifest.as_json() if newest else None,
        }
        normal = self._run(
            JobKind.REFERENCE, pipeline, wanted, {"manifest": trained.manifest.as_json(), "predictor": version.predictor.as_json()}
        )
        return self._run(JobKind.LOOK, pipeline, wanted, {**inputs, **normal}), newest

    def _newest(self, trained: DatasetVersion) -> DatasetVersion | None:
        """Data that is newer than what the version was trained on."""
        try:
            newest = self._datasets.newest(trained.dataset)
        except NotFound:
            return None
        return newest if newest.number > trained.number else None

    def _run(self, kind: JobKind, pipeline: PipelineVersion, wanted: Monitor, inputs: Json) -> Json:
        """A job under the digest of all that it depends on: nobody computes the same twice."""
        named = digest({"kind": kind, "inputs": inputs, "monitor": wanted.model_dump(mode="json"), "split": pipeline.spec["data"]["split"]})
        request = JobRequest(
            job=f"monitor-{named[:32]}", kind=kind, storage=self._storage, spec=pipeline.spec, inputs=inputs, code=pipeline.code
        )
        return self._jobs.run(request, wanted.stall.total_seconds(), "monitor.stall")


def floored(at: datetime, every: timedelta) -> datetime:
    """*at*, rounded down to a multiple of *every* since 1970-01-01 UTC."""
    seconds = int(every.total_seconds())
    return datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)


def _event(
    version: ModelVersion, found: Json, at: datetime, wanted: Monitor, newest: DatasetVersion | None, report: ArtifactRef
) -> DriftEvent:
    """A finding as an event. Model, version, monitor and window (or data) name it, so that a repeated look makes none."""
    kind, monitor = DriftKind(found["kind"]), found["monitor"]
    end = at - wanted.late if monitor in ("labels", "quality") else at
    about = str(newest.id) if monitor in _OF_DATA and newest else f"{(end - wanted.window).isoformat()}/{end.isoformat()}"
    notes = [{"method": "schema", "note": note} for note in found["notes"]]
    return DriftEvent(
        source=SOURCE,
        event_id=f"{version.model}/{version.number}/{monitor}/{about}",
        type=f"ai.perdure.{TYPES[kind]}.v1",
        model=version.model,
        kind=kind,
        monitor=monitor,
        drifted=found["drifted"],
        version=version.number,
        window_start=end - wanted.window,
        window_end=end,
        n=found["n"],
        severity=found["severity"],
        metrics=[*notes, *found["metrics"]],
        report_uri=report.uri,
    )
