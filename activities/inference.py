"""Batch inference: jobs read and score; these activities decide what scores what, and commit each shard and the scores once."""

from __future__ import annotations

from dataclasses import asdict

from temporalio import activity

from perdure.activities.claims import Claims
from perdure.activities.jobs import JobRunner, Watched
from perdure.activities.runs import plain
from perdure.errors import InvalidInput
from perdure.keys import digest
from perdure.messages.common import Json, StepRunRef
from perdure.messages.inference import BatchPlan, BatchRequest, OpenBatch, Pinned, Scored, ShardDone
from perdure.messages.jobs import Engine, JobKind, JobRequest, Resources
from perdure.messages.pipeline import StepKind
from perdure.ports import Batch, Batches, Datasets, Models, Run, Runs, StepRun, Steps
from perdure.spec.pipeline import load
from perdure.spec.scoring import check_request, file_source

PLAN, SHARD = "plan", "score"


class InferenceActivities:
    """Pin, open, plan, shards, commit."""

    def __init__(
        self,
        runs: Runs,
        steps: Steps,
        datasets: Datasets,
        models: Models,
        batches: Batches,
        claims: Claims,
        jobs: JobRunner,
        storage: str,
        engines: tuple[Engine, ...],
    ) -> None:
        self._runs, self._steps, self._datasets, self._models, self._batches = runs, steps, datasets, models, batches
        self._claims, self._jobs, self._storage, self._engines = claims, jobs, storage, engines

    @activity.defn(name="inference.pin", no_thread_cancel_exception=True)
    def pin(self, request: BatchRequest) -> Pinned:
        """What scores, which version of a data set is scored (if it is one), and where to. Raises InvalidInput, NotFound, Conflict."""
        dataset = check_request(request)
        if request.engine not in self._engines:
            raise InvalidInput(f"there is no engine {request.engine.value!r} here", field="engine", remedy="set ray.url, or use `local`")
        version = self._models.find(request.model, request.version)
        to = request.to or f"{version.model}-scores"
        self._batches.check(to)
        source = self._batches.dataset(dataset.dataset, dataset.version).id if dataset else None
        return Pinned(model_version=version.id, source_version=source, to=to)

    @activity.defn(name="inference.open", no_thread_cancel_exception=True)
    def open(self, request: OpenBatch) -> BatchPlan:
        """The run of this workflow chain, with its one step. Raises Conflict where another chain had this workflow id."""
        asked, version = request.request, self._models.version(request.pinned.model_version)
        trained, scheduled = self._runs.run(version.run_id), activity.info().scheduled_time
        run = self._runs.open(
            workflow_id=request.workflow_id,
            chain=request.chain,
            pipeline=trained.pipeline.id,
            spec=trained.spec,
            request=plain(asdict(asked)),
            scheduled=scheduled,
        )
        pinned = request.pinned
        self._batches.open(run.id, model_version=version.id, source_version=pinned.source_version, dataset=pinned.to)
        step = self._steps.begin(run.id, 0, StepKind.PREDICT, scheduled)
        spec = load(run.spec)
        return BatchPlan(
            run_id=run.id,
            step_run=step.id,
            model=version.model,
            version=version.number,
            patience=asked.patience or spec.patience,
            window=asked.window or spec.data.window,
        )

    @activity.defn(name="inference.plan", no_thread_cancel_exception=True)
    def plan(self, request: StepRunRef) -> int:
        """Look at the source and divide it, once; into how many shards."""
        step, run, batch = self._of(request)
        made = self._done(request, PLAN)
        if made is None:
            inputs = {"predictor": batch.version.predictor.as_json(), "source": _source(run, batch)}
            made = self._run(run, step, batch, PLAN, JobKind.PLAN_SCORES, {**inputs, **_asked(batch, "keep", "shards")})
        return len(made["partitions"])

    @activity.defn(name="inference.score", no_thread_cancel_exception=True)
    def score(self, request: StepRunRef) -> ShardDone:
        """Score one shard, once; or take what any run has made of the same rows with the same version."""
        done = self._done(request, SHARD)
        if done is None:
            step, run, batch = self._of(request)
            plan = self._datasets.partitions(step.id, PLAN)[0]
            shard = plan["partitions"][request.index]
            key, use_cache = self._claims.part_key(
                run, StepKind.PREDICT, params=_read(plan, shard), inputs=[batch.version.predictor.sha256]
            )
            done = self._datasets.known_partition(key) if use_cache else None
            if done is not None and all(self._claims.intact(file) for file in done["files"].values() if file):
                done = self._datasets.record_partition(step.id, SHARD, request.index, {**done, "index": request.index}, key)
            else:
                inputs = {name: plan[name] for name in ("reader", "fields", "keep", "personal")}
                inputs |= {"predictor": batch.version.predictor.as_json(), "shard": shard}
                done = self._run(run, step, batch, SHARD, JobKind.SCORE, inputs, request.index, key)
        return ShardDone(index=request.index, rows=done["rows"], quarantined=done["quarantined"])

    @activity.defn(name="inference.commit", no_thread_cancel_exception=True)
    def commit(self, request: StepRunRef) -> Scored:
        """One dataset version: a Delta commit, a manifest, and the rows that name them. Raises DataRejected."""
        step, run, batch = self._of(request)
        plan = self._datasets.partitions(step.id, PLAN)[0]
        allowed = batch.request.get("quarantined")
        predictor = batch.version.predictor.as_json()
        inputs: Json = {
            "plan": plan,
            "shards": self._datasets.partitions(step.id, SHARD),
            "predictor": predictor,
            "model": {"name": batch.version.model, "version": batch.version.number},
            "to": batch.dataset,
            "quarantined": load(run.spec).data.limits.quarantined if allowed is None else allowed,
        }
        made = self._run(run, step, batch, "commit", JobKind.COMMIT_SCORES, inputs)
        from_ours = {"dataset": batch.source.manifest.as_json()} if batch.source else {}
        result = {**made, "source": plan["source"], "predictor": predictor, **from_ours}
        version = self._datasets.commit(step.id, batch.dataset, result, "")
        return Scored(
            dataset=version.dataset,
            dataset_version=version.id,
            number=version.number,
            manifest=version.manifest,
            rows=version.scored_rows,
            quarantined=version.quarantined_rows,
        )

    def _of(self, request: StepRunRef) -> tuple[StepRun, Run, Batch]:
        """The step, open again where its workflow was reset after its end."""
        run_id = self._steps.step(request.step_run).run_id
        step = self._steps.begin(run_id, 0, StepKind.PREDICT, activity.info().scheduled_time)
        return step, self._runs.run(run_id), self._batches.batch(run_id)

    def _done(self, request: StepRunRef, phase: str) -> Json | None:
        return self._datasets.partition(request.step_run, phase, request.index)

    def _run(
        self, run: Run, step: StepRun, batch: Batch, phase: str, kind: JobKind, inputs: Json, index: int = 0, key: str | None = None
    ) -> Json:
        name = f"{phase}-{index}"
        request = JobRequest(
            job=f"{step.id}-{name}",
            kind=kind,
            storage=self._storage,
            spec=run.spec,
            inputs=inputs,
            code=run.pipeline.code,
            index=index,
            resources=Resources(driver_cpus=1),  # what Ray gives it, on any node: it computes itself
        )
        end = self._jobs.run(
            Watched(
                step_run=step.id,
                name=name,
                request=request,
                engine=Engine(batch.request.get("engine", Engine.LOCAL)),
                stall=load(run.spec).data.stall,
                setting="data.stall",
                detail={"phase": phase},
            )
        )
        assert end.result is not None, "only training pauses"
        return self._datasets.record_partition(step.id, phase, index, end.result, key)


def _source(run: Run, batch: Batch) -> Json:
    """What the plan's job reads: a manifest of ours, or files."""
    asked = batch.request["source"]
    if batch.source is not None:
        return {"manifest": batch.source.manifest.as_json(), "split": asked.get("split")}
    return file_source(asked, run.spec["data"]["source"]).model_dump(mode="json")


def _asked(batch: Batch, *names: str) -> Json:
    return {name: batch.request.get(name) for name in names}


def _read(plan: Json, shard: Json) -> Json:
    """What decides the scores of a shard, beside the predictor: its bytes, wherever they lie, and how they are read."""
    ranges = [{name: value for name, value in each.items() if name != "uri"} for each in shard["ranges"]]
    reader = {name: value for name, value in plan["reader"].items() if name != "uri"}
    return {"ranges": digest(ranges), "reader": reader, **{name: plan[name] for name in ("fields", "keep", "personal")}}
