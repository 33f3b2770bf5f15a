"""Data preparation: jobs read, check, split and transform; these activities commit each partition and the dataset version once."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from temporalio import activity

from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.activities.snapshots import Snapshots
from perdure.keys import digest, identity, step_params
from perdure.messages.common import ArtifactRef, Json, StepRunRef
from perdure.messages.jobs import Engine, JobKind, JobRequest
from perdure.messages.pipeline import StepKind
from perdure.messages.preparation import DatasetRef, PartitionDone, PreparePlan, PrepareRequest
from perdure.ports import Datasets, DatasetVersion, Run, Runs, StepRun, Steps
from perdure.spec.pipeline import load

SAID = "said"
"""The phase that records which label snapshots a preparation learns from."""


class PreparationActivities:
    """Plan, partitions, fit, features, commit."""

    def __init__(
        self, runs: Runs, steps: Steps, datasets: Datasets, claims: Claims, jobs: JobRunner, snapshots: Snapshots, storage: str
    ) -> None:
        self._runs, self._steps, self._datasets, self._claims, self._jobs, self._storage = runs, steps, datasets, claims, jobs, storage
        self._snapshots = snapshots

    @activity.defn(name="preparation.begin", no_thread_cancel_exception=True)
    def begin(self, request: PrepareRequest) -> PreparePlan:
        """Look at the source, then decide between the cache and work. Raises the plan job's typed errors."""
        run = self._runs.run(request.run_id)
        step = self._steps.begin(request.run_id, request.round, StepKind.PREPARE, activity.info().scheduled_time)
        said = self._gather(run, step, request)
        predictions = {"predictions": said["predictions"]} if said.get("predictions") else {}
        plan = self._done(step.id, "plan") or self._run(run, step, "plan", JobKind.PLAN, predictions)
        params = step_params(StepKind.PREPARE, run.spec, run.pipeline.name)
        learned = [*said.get("labels", []), *plan.get("predictions", [])]
        inputs = [plan["source"]["digest"], *(snapshot["sha256"] for snapshot in learned)]
        claim = self._claims.claim(run, step, params=params, inputs=inputs, artifacts="manifest", named=_named)
        cached = None
        if claim.hit is not None:
            cached = _reused(claim.hit.result or {}, claim.reason)
            self._steps.finish(step.id, claim.hit.result or {}, claim.reason)
        return PreparePlan(
            step_run=step.id, partitions=len(plan["partitions"]), fits=bool(plan["fits"]), cached=cached, reason=claim.reason
        )

    @activity.defn(name="preparation.partition", no_thread_cancel_exception=True)
    def partition(self, request: StepRunRef) -> PartitionDone:
        """Read, check and split one partition, once."""
        done = self._phase(
            request,
            "partition",
            JobKind.PARTITION,
            lambda: {"plan": self._plan(request.step_run), **self._said(request.step_run)},
            lambda inputs: _read_by_partition(inputs, request.index),
        )
        return PartitionDone(index=request.index, rows=done["rows"], quarantined=done["quarantined"])

    @activity.defn(name="preparation.fit", no_thread_cancel_exception=True)
    def fit(self, request: StepRunRef) -> None:
        """Fit the transform on the training split, once."""
        self._phase(
            request,
            "fit",
            JobKind.FIT,
            lambda: {"plan": self._plan(request.step_run), "partitions": self._datasets.partitions(request.step_run, "partition")},
        )

    @activity.defn(name="preparation.features", no_thread_cancel_exception=True)
    def features(self, request: StepRunRef) -> PartitionDone:
        """Transform one partition's training rows, once."""
        done = self._phase(request, "features", JobKind.FEATURES, lambda: self._feature_inputs(request), _read_by_features)
        return PartitionDone(index=request.index, rows=done["rows"], quarantined=0)

    @activity.defn(name="preparation.commit", no_thread_cancel_exception=True)
    def commit(self, request: StepRunRef) -> DatasetRef:
        """One dataset version: a Delta commit, a manifest, and the rows that name them."""
        step = self._steps.step(request.step_run)
        run = self._runs.run(step.run_id)
        plan = self._plan(step.id)
        inputs: Json = {
            "plan": plan,
            "partitions": self._datasets.partitions(step.id, "partition"),
            "features": self._datasets.partitions(step.id, "features"),
            "state": self._state(step.id),
            **self._said(step.id),
        }
        result = self._run(run, step, "commit", JobKind.COMMIT, inputs)
        version = self._datasets.commit(step.id, run.pipeline.name, {**result, "source": plan["source"]}, step.reason)
        return _ref(version, cached=False, reason=step.reason)

    def _gather(self, run: Run, step: StepRun, request: PrepareRequest) -> Json:
        """The snapshots of what people said, by what it is about: ``labels`` of rows, and ``predictions``; neither where nobody is asked.

        In earlier runs, as the first attempt of the first round found them, and in this one.
        """
        spec = load(run.spec)
        label, learns = spec.label, spec.ask is not None and spec.ask.learn is not False
        if label is None and not learns:
            return {}
        first = identity(run.id, 0, StepKind.PREPARE)
        earlier = self._done(first, SAID)
        if earlier is None:
            found = self._datasets.said_before(run.pipeline.name, run.id) if label is not None and label.earlier else []
            about = self._snapshots.about(spec.model_name) if learns else []
            said: Json = {"labels": [each.as_json() for each in found]} if label is not None else {}
            said |= {"predictions": [each.as_json() for each in about]} if about else {}
            earlier = self._datasets.record_partition(first, SAID, 0, said)
        if step.id == first or label is None:
            return earlier
        new = [each.as_json() for each in request.labels]
        known = {each["sha256"]: each for each in earlier["labels"] if each not in new} | {each["sha256"]: each for each in new}
        return self._datasets.record_partition(step.id, SAID, 0, {**earlier, "labels": list(known.values())})

    def _said(self, step_run: UUID) -> Json:
        """What people said about rows, as an input of jobs."""
        found = self._done(step_run, SAID) or {}
        return {"labels": found["labels"]} if "labels" in found else {}

    def _feature_inputs(self, request: StepRunRef) -> Json:
        partitions = self._datasets.partitions(request.step_run, "partition")
        spec = self._runs.run(self._steps.step(request.step_run).run_id).spec
        return {
            "plan": self._plan(request.step_run),
            "partition": next(p for p in partitions if p["index"] == request.index),
            "state": self._state(request.step_run),
            "classes": classes(partitions, spec["data"]["target"]),
        }

    def _plan(self, step_run: UUID) -> Json:
        return self._datasets.partitions(step_run, "plan")[0]

    def _state(self, step_run: UUID) -> Json | None:
        fitted = self._done(step_run, "fit")
        return fitted["state"] if fitted else None

    def _done(self, step_run: UUID, phase: str, index: int = 0) -> Json | None:
        return self._datasets.partition(step_run, phase, index)

    def _phase(
        self,
        request: StepRunRef,
        phase: str,
        kind: JobKind,
        inputs: Callable[[], Json],
        read: Callable[[Json], Json] | None = None,
    ) -> Json:
        """What one job of *phase* made: now, or before; where *read* names what of its inputs counts, by any run that read the same."""
        if (done := self._done(request.step_run, phase, request.index)) is not None:
            return done
        step = self._steps.step(request.step_run)
        run, given = self._runs.run(step.run_id), inputs()
        if read is None:
            return self._run(run, step, phase, kind, given, request.index)
        params = {name: value for name, value in step_params(StepKind.PREPARE, run.spec, run.pipeline.name).items() if name != "partitions"}
        key, use_cache = self._claims.part_key(run, StepKind.PREPARE, params={"phase": phase, **params}, inputs=[digest(read(given))])
        known = self._datasets.known_partition(key) if use_cache else None
        if known is not None and all(self._claims.intact(file) for file in _made(known)):
            return self._datasets.record_partition(step.id, phase, request.index, {**known, "index": request.index}, key)
        return self._run(run, step, phase, kind, given, request.index, key)

    def _run(self, run: Run, step: StepRun, phase: str, kind: JobKind, inputs: Json, index: int = 0, key: str | None = None) -> Json:
        name = f"{phase}-{index}"
        request = JobRequest(
            job=f"{step.id}-{name}", kind=kind, storage=self._storage, spec=run.spec, inputs=inputs, code=run.pipeline.code, index=index
        )
        end = self._jobs.run(
            Watched(
                step_run=step.id,
                name=name,
                request=request,
                engine=Engine.LOCAL,
                stall=load(run.spec).data.stall,
                setting="data.stall",
                detail={"phase": phase},
            )
        )
        assert end.result is not None, "only training pauses"
        return self._datasets.record_partition(step.id, phase, index, end.result, key)


def _read_by_partition(inputs: Json, index: int) -> Json:
    """What decides what becomes of a partition's rows: their bytes, wherever they lie, and what people said."""
    plan = inputs["plan"]
    labels = {"labels": [snapshot["sha256"] for snapshot in inputs["labels"]]} if "labels" in inputs else {}
    part = plan["partitions"][index]["ranges"]
    ranges = [{name: value for name, value in each.items() if name not in ("uri", "later")} for each in part]
    repeated = plan["duplicates"] and [plan["duplicates"]["sha256"], index]
    kept = {name: plan[name] for name in ("fields", "columns", "cut")}
    if later := [snapshot["sha256"] for each in part for snapshot in each.get("later", [])]:
        kept["later"] = later
    return {"ranges": ranges, "repeated": repeated, **labels, **kept}


def _read_by_features(inputs: Json) -> Json:
    return {"rows": inputs["partition"]["files"]["train"], "state": inputs["state"], "classes": inputs["classes"]}


def _made(result: Json) -> list[Json]:
    """The objects that a partition's result names."""
    return [file for file in (*result["files"].values(), result.get("profile")) if file]


def _named(manifest: Json) -> list[Json]:
    """The objects that a manifest names."""
    parts = [*manifest["splits"].values(), manifest["features"], manifest["quarantine"]]
    if "pool" in manifest:
        parts.append(manifest["pool"])
    state = (manifest["transform"] or {}).get("state")
    single = [manifest["profile"], *([state] if state else []), *manifest.get("labels", []), *manifest.get("predictions", [])]
    return [file for part in parts for file in part["files"]] + single


def classes(partitions: list[Json], target: Json) -> list[str]:
    """Class names over all partitions, sorted, the positive one last; none for regression."""
    if target["task"] != "classification":
        return []
    names = sorted({name for partition in partitions for name in partition["classes"]})
    positive = target.get("positive")
    return [name for name in names if name != positive] + [positive] if positive in names else names


def _ref(version: DatasetVersion, *, cached: bool, reason: str) -> DatasetRef:
    return DatasetRef(
        dataset_version=version.id,
        manifest=version.manifest,
        train_rows=version.train_rows,
        test_rows=version.test_rows,
        quarantined_rows=version.quarantined_rows,
        pool_rows=version.pool_rows,
        labeled_rows=version.labeled_rows,
        cached=cached,
        reason=reason,
    )


def _reused(result: Json, reason: str) -> DatasetRef:
    return DatasetRef(
        dataset_version=UUID(result["dataset_version"]),
        manifest=ArtifactRef.from_json(result["manifest"]),
        train_rows=result["rows"]["train"],
        test_rows=result["rows"]["test"],
        quarantined_rows=result["rows"]["quarantined"],
        pool_rows=result["rows"].get("pool", 0),
        labeled_rows=result["rows"].get("labeled", 0),
        cached=True,
        reason=reason,
    )
