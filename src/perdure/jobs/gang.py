"""A worker group of plain Ray actors in a placement group, started again as a whole, under a new epoch, when a worker is lost."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from perdure.errors import JobCrashed, PerdureError, bounded, from_dict
from perdure.jobs import capacity, scratch, trainers, usercode
from perdure.jobs.checkpoints import JobTraining, Trained, TrainPlan, obey
from perdure.jobs.latest import Fenced, Paused, RunState
from perdure.jobs.node import object_store
from perdure.jobs.status import StatusWriter
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import Checkpoint, Resources

if TYPE_CHECKING:  # workers import this module, but not what only the driver needs
    from perdure.jobs.context import JobContext

_LOSSES = 3  # groups lost in a row without a new checkpoint: not the machines' fault
_LOOK = 5.0  # seconds between looks at ``control`` while workers are waited for
_SETTLE = 10.0  # seconds after one worker failed in which the others are heard, and a death is noticed


class WorkerLost(Exception):
    """A worker of the group died; or the workers lost each other: then *error* is what that would mean if it were no accident."""

    def __init__(self, message: str, error: PerdureError | None = None) -> None:
        super().__init__(message)
        self.error = error


def _warm_up(trainer: str, bucket: str) -> None:
    """Import what training needs while the rest of the group starts."""
    if trainer == "xgboost":
        from perdure.jobs.trainers.xgboost import import_xgboost

        import_xgboost()
    import polars  # noqa: F401

    object_store(bucket)


@dataclass(frozen=True)
class Task:
    """What one worker is told."""

    bucket: str
    job: str
    code: ArtifactRef | None
    plan: TrainPlan
    epoch: int
    checkpoint: Checkpoint | None
    rank: int
    pids: list[int]
    rendezvous: Mapping[str, Any] | None


@dataclass(frozen=True)
class Outcome:
    """How a worker's trainer ended: one of the first five is set. Exceptions stay in the worker, as not all can be pickled.

    *doubtful*: survivors of a lost worker fail in the same way.
    """

    trained: Trained | None = None
    error: dict[str, str | None] | None = None
    unknown: str | None = None
    fenced: str | None = None
    paused: str | None = None
    doubtful: bool = False


class Worker:
    """One member of the group: trains in one thread and answers in another (max_concurrency=2)."""

    def __init__(self, trainer: str, bucket: str) -> None:
        self._tracker: Any = None
        threading.Thread(target=_warm_up, args=(trainer, bucket), daemon=True).start()

    def pid(self) -> int:
        """Also a sign of life."""
        return os.getpid()

    def open_tracker(self, world_size: int) -> dict[str, Any]:
        """Start XGBoost's rendezvous here; its arguments for all ranks. Ranks are bound to task ids: the same ones every time."""
        from perdure.jobs.trainers.xgboost import import_xgboost

        host = ray.util.get_node_ip_address()
        self._tracker = import_xgboost().RabitTracker(n_workers=world_size, host_ip=host, sortby="task")
        self._tracker.start()
        return dict(self._tracker.worker_args())

    def run(self, task: Task) -> Outcome:
        """Train this rank's part."""
        try:
            return Outcome(trained=self._train(task))
        except Fenced as fenced:
            return Outcome(fenced=str(fenced))
        except Paused as paused:
            return Outcome(paused=str(paused))
        except PerdureError as err:
            return Outcome(error=err.as_dict())
        except MemoryError:
            return Outcome(error=usercode.out_of_memory("the training").as_dict())
        except Exception as err:
            if usercode.disk_full(err):
                return Outcome(error=usercode.no_room("the training").as_dict())
            if type(err).__name__ == "XGBoostError":
                from perdure.jobs.trainers.xgboost import refused

                return Outcome(error=refused(err).as_dict(), doubtful=True)
            return Outcome(unknown=traceback.format_exc())

    def _train(self, task: Task) -> Trained:
        objects = object_store(task.bucket)
        run = RunState(objects, task.job, task.epoch)
        with scratch.folder() as folder, StatusWriter(run) as status:
            context = JobTraining(
                task.plan,
                objects,
                run,
                status,
                folder,
                checkpoint=task.checkpoint,
                rank=task.rank,
                world_size=len(task.pids),
                rendezvous=task.rendezvous,
            )
            if task.rank == 0:
                status.update(phase="loading", workers=task.pids, device=task.plan.device)
            trainers.load(task.plan.trainer, objects, task.code)(context)
            return context.trained()


def train(job: JobContext, plan: TrainPlan) -> Trained:
    """Train to the end on a group of workers. Raises Fenced, Paused, JobCrashed, and the trainer's typed errors."""
    ray.init(logging_level="WARNING")
    plan, resources = _granted(job, plan)
    group = placement_group([capacity.bundle(resources)] * resources.workers, strategy="PACK")
    lost_at: list[int] = []
    try:
        while True:
            state = job.run.latest() if not lost_at else job.run.renew(f"{_owner(job)}#{len(lost_at)}")
            round = state.checkpoint.round if state.checkpoint else 0
            obey(job.run, round)
            try:
                with _workers(job, plan, resources, group) as workers:
                    return _train_once(job, plan, resources, workers, state.checkpoint)
            except WorkerLost as lost:
                print(f"epoch {job.run.epoch}: {lost}", flush=True)
                latest = job.run.latest().checkpoint
                lost_at.append(latest.round if latest else 0)
                if len(lost_at) >= _LOSSES and len(set(lost_at[-_LOSSES:])) == 1:
                    raise lost.error or JobCrashed(
                        f"workers died {_LOSSES} times without progress after round {lost_at[-1]}: {lost}",
                        field="train.trainer",
                        remedy="look for os._exit, a native crash or too little memory; `perdure logs RUN` shows the output",
                    ) from lost
    finally:
        remove_placement_group(group)


def _owner(job: JobContext) -> str:
    return f"{ray.get_runtime_context().get_job_id()}/{os.getpid()}/{job.run.epoch}"


def _granted(job: JobContext, plan: TrainPlan) -> tuple[TrainPlan, Resources]:
    """The plan with its device, and what the group asks of Ray: without GPUs where there are none and the specification allows it."""
    scaling = job.spec.train.scaling
    wanted = Resources(
        workers=scaling.workers,
        cpus_per_worker=scaling.cpus_per_worker,
        gpus_per_worker=scaling.gpus_per_worker,
        accelerator=scaling.accelerator,
    )
    if not scaling.gpus_per_worker:
        return plan, wanted
    if scaling.allow_cpu and capacity.room(_nodes(), capacity.bundle(wanted)) == 0:
        print("no node has the GPUs that are asked for: training on CPU, as train.scaling.allow_cpu says", flush=True)
        return replace(plan, device="cpu"), replace(wanted, gpus_per_worker=0, accelerator=None)
    return replace(plan, device="cuda"), wanted


def _nodes() -> list[capacity.Node]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _workers(job: JobContext, plan: TrainPlan, resources: Resources, group: Any) -> Iterator[list[Any]]:
    """The group's actors, killed at the end."""
    remote = ray.remote(Worker)
    workers = [
        remote.options(
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker,
            max_concurrency=2,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
        ).remote(plan.trainer, job.objects.bucket)
        for rank in range(resources.workers)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            ray.kill(worker)


def _train_once(job: JobContext, plan: TrainPlan, resources: Resources, workers: list[Any], checkpoint: Checkpoint | None) -> Trained:
    """Train with these workers. Raises WorkerLost when one dies, and what `_judge` makes of their failures."""
    try:
        pids = _wait_for(job, resources, workers, checkpoint)
        rendezvous = None
        if len(workers) > 1 and plan.trainer == "xgboost":
            rendezvous = ray.get(workers[0].open_tracker.remote(len(workers)))
        told = Task(job.objects.bucket, job.request.job, job.request.code, plan, job.run.epoch, checkpoint, 0, pids, rendezvous)
        running = [worker.run.remote(replace(told, rank=rank)) for rank, worker in enumerate(workers)]
        importlib.import_module("perdure.predictor")  # for the end, while nobody waits for this process
        outcomes: list[Outcome] = []
        pending = running
        while pending and all(outcome.trained for outcome in outcomes):
            done, pending = ray.wait(pending)
            outcomes += ray.get(done)
        if pending:  # one failed: the others fail in consequence, or are why it failed
            done, pending = ray.wait(pending, num_returns=len(pending), timeout=_SETTLE)
            outcomes += ray.get(done)
            ray.get([worker.pid.remote() for worker in workers], timeout=_SETTLE)
        _judge(outcomes)
        first: Outcome = ray.get(running[0])
    except ray.exceptions.RayError as err:
        raise WorkerLost(bounded(str(err), 500)) from err
    assert first.trained is not None  # else `_judge` had raised
    return first.trained


def _wait_for(job: JobContext, resources: Resources, workers: list[Any], checkpoint: Checkpoint | None) -> list[int]:
    """The workers' pids once all are up; meanwhile people see what is waited for, and may change their mind.

    The status stands still while the cluster has no room even when empty: then the watcher's stall limit applies.
    """
    pids = [worker.pid.remote() for worker in workers]
    up: list[Any] = []
    while True:
        if not up or capacity.room(_nodes(), capacity.bundle(resources)) >= resources.workers:
            job.progress({"phase": "waiting for workers", "workers_up": len(up), "workers_wanted": len(pids)})
        up, waiting = ray.wait(pids, num_returns=len(pids), timeout=_LOOK)
        if not waiting:
            return list(ray.get(pids))
        obey(job.run, checkpoint.round if checkpoint else 0)


def _judge(outcomes: list[Outcome]) -> None:
    """Raise what the outcomes of workers, none of which was lost, mean for the group: what may be the cause of the others comes first."""
    for outcome in outcomes:
        if outcome.fenced is not None:
            raise Fenced(outcome.fenced)
    for outcome in outcomes:
        if outcome.paused is not None:
            raise Paused(outcome.paused)
    errors = [from_dict(outcome.error) for outcome in outcomes if outcome.error and not outcome.doubtful]
    for error in sorted(errors, key=lambda error: not error.retryable):
        raise error
    for outcome in outcomes:
        if outcome.unknown is not None:
            raise RuntimeError(f"a worker failed\n{outcome.unknown}")
    for outcome in outcomes:
        if outcome.error is not None:
            doubtful = from_dict(outcome.error)
            raise WorkerLost(doubtful.problem, doubtful)
