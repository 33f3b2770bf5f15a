"""The training job: from the dataset's manifest to a predictor, gone on with from the last committed checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.errors import InvalidInput, UserCodeError
from perdure.jobs import trainers
from perdure.jobs.checkpoints import JobTraining, Trained, TrainPlan, obey
from perdure.jobs.context import JobContext
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Checkpoint


def train(job: JobContext) -> dict[str, Any]:
    """Train, and build the predictor. Raises Fenced, Paused, and typed errors of the trainer, the data and the cluster."""
    manifest = job.objects.get_json(job.artifact("manifest"))
    plan = TrainPlan.of(job.spec.train, manifest)
    if (shards := len(plan.files["train"])) < job.spec.train.scaling.workers:
        raise InvalidInput(
            f"{job.spec.train.scaling.workers} workers, but only {shards} shards of training rows",
            field="train.scaling.workers",
            remedy="use fewer workers, or more data.partitions",
        )
    if job.spec.train.engine == "ray":
        from perdure.jobs import gang  # Ray is imported only where it is used

        trained = gang.train(job, plan)
    else:
        trained = _train_here(job, plan)
    job.progress({**trained.status, "phase": "saving"})
    checkpoint = job.run.latest().checkpoint
    if checkpoint is None:
        raise UserCodeError(
            f"{plan.trainer} ended without a checkpoint",
            field="train.trainer",
            remedy="give context.report a folder with the model's files after the last round",
        )
    return {
        "predictor": _predictor(job, manifest, checkpoint).as_json(),
        "rounds": checkpoint.round,
        "metrics": checkpoint.metrics,
        "seconds": trained.seconds,
        "device": trained.status.get("device", "cpu"),
    }


def _train_here(job: JobContext, plan: TrainPlan) -> Trained:
    """Train in this process: the local engine has one worker."""
    state = job.run.latest()
    obey(job.run, state.checkpoint.round if state.checkpoint else 0)
    context = JobTraining(plan, job.objects, job.run, job.status, job.scratch, checkpoint=state.checkpoint)
    trainers.load(plan.trainer, job.objects, job.request.code)(context)
    return context.trained()


def _predictor(job: JobContext, manifest: Mapping[str, Any], checkpoint: Checkpoint) -> ArtifactRef:
    """The artifact that scores raw rows: the checkpoint's files, the transform with its state, the owner's code."""
    from perdure import predictor

    model = job.scratch / "model"
    model.mkdir()
    job.run.load_checkpoint(checkpoint, model)
    transform = manifest["transform"]
    state = ArtifactRef.from_json(transform["state"]) if transform and transform["state"] else None
    own = ":" in job.spec.train.trainer
    path = predictor.build(
        job.scratch / "predictor.zip",
        manifest=manifest,
        format="custom" if own else "xgboost-ubj",
        files={name: model / name for name in checkpoint.files},
        state=job.objects.get(state) if state else None,
        code=job.objects.get(job.request.code) if job.request.code else None,
        predict=job.spec.train.predict if own else None,
    )
    return job.objects.put("models", "predictor.zip", path)
