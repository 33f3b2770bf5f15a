"""The composition root: opens clients once per process and builds the activities on them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterator
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from perdure.activities.claims import Claims, Environment
from perdure.activities.detached import DetachedJobs
from perdure.activities.evaluation import EvaluationActivities
from perdure.activities.experiment import ExperimentActivities
from perdure.activities.guard import Guard
from perdure.activities.inference import InferenceActivities
from perdure.activities.jobs import JobRunner
from perdure.activities.labeling import LabelingActivities
from perdure.activities.labelstudio import LabelStudioActivities
from perdure.activities.monitoring import MonitoringActivities
from perdure.activities.preparation import PreparationActivities
from perdure.activities.promotion import PromotionActivities
from perdure.activities.retraining import RetrainingActivities
from perdure.activities.rollout import RolloutActivities
from perdure.activities.runs import RunActivities
from perdure.activities.selection import SelectionActivities
from perdure.activities.snapshots import Snapshots
from perdure.activities.training import TrainingActivities
from perdure.adapters.consolidation import DawidSkeneConsolidation
from perdure.adapters.job_files import S3JobFiles
from perdure.adapters.labelstudio import LabelStudioServer
from perdure.adapters.lines import S3Lines
from perdure.adapters.local_jobs import LocalJobs
from perdure.adapters.no_ray import NoRay
from perdure.adapters.outcome_files import ParquetOutcomes
from perdure.adapters.ray_jobs import RayJobs
from perdure.adapters.s3 import ObjectStore
from perdure.adapters.sources import StoredSources
from perdure.config import Settings
from perdure.messages.jobs import Engine
from perdure.metadata.database import Database
from perdure.metadata.repository import (
    BatchRows,
    CampaignRows,
    DatasetRows,
    DeliveryRows,
    DriftRows,
    ExperimentRows,
    LabelRows,
    ModelRows,
    OutcomeRows,
    PromotionRows,
    RetrainingRows,
    RunRows,
    SelectionRows,
    SentTaskRows,
    StepRows,
    TrafficRows,
)
from perdure.ports import Compute
from perdure.workers.orphans import stopping_orphans
from perdure.workers.registry import Activities, WorkerSpec

COMPUTING = ("perdure", "numpy", "polars", "pyarrow", "pandera", "xgboost", "xgboost-cpu", "ray")
"""Packages whose version may change what a job computes."""


def environment() -> Environment:
    """What computes here: Python, machine and package versions."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for package in COMPUTING:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return Environment(versions=versions)


@contextlib.contextmanager
def open_activities(settings: Settings) -> Iterator[Activities]:
    """Every activity on real adapters; on leaving, local jobs are ended and connections closed."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database.open(settings))
        objects = ObjectStore(settings.s3, attempts=2)  # the activity itself waits, with patience and heartbeats
        files, lines = S3JobFiles(objects), S3Lines(objects)
        local = stack.enter_context(contextlib.closing(LocalJobs(settings)))
        ray: Compute = stack.enter_context(contextlib.closing(RayJobs(settings.ray))) if settings.ray.url else NoRay()
        runs, steps, datasets, models = RunRows(database), StepRows(database), DatasetRows(database), ModelRows(database)
        stack.enter_context(stopping_orphans(steps, local))
        studio = stack.enter_context(contextlib.closing(LabelStudioServer(settings.labelstudio, settings.gateway)))
        claims = Claims(steps, files, environment())
        jobs = JobRunner(steps, files, {Engine.LOCAL: local, Engine.RAY: ray})
        campaigns, consolidation = CampaignRows(database), DawidSkeneConsolidation()
        storage = settings.storage
        engines = (Engine.LOCAL, Engine.RAY) if settings.ray.url else (Engine.LOCAL,)
        yield Activities(
            runs=RunActivities(runs),
            preparation=PreparationActivities(runs, steps, datasets, claims, jobs, Snapshots(campaigns, lines, consolidation), storage),
            training=TrainingActivities(runs, steps, models, claims, jobs, storage),
            evaluation=EvaluationActivities(runs, steps, datasets, models, claims, jobs, files, lines, storage),
            promotion=PromotionActivities(runs, steps, models, PromotionRows(database)),
            rollout=RolloutActivities(runs, TrafficRows(database)),
            experiment=ExperimentActivities(runs, ExperimentRows(database), OutcomeRows(database), ParquetOutcomes(objects), jobs, storage),
            selection=SelectionActivities(runs, steps, models, SelectionRows(database), claims, jobs, storage),
            labeling=LabelingActivities(campaigns, LabelRows(database), lines, consolidation),
            inference=InferenceActivities(runs, steps, datasets, models, BatchRows(database), claims, jobs, storage, engines),
            monitoring=MonitoringActivities(
                runs,
                models,
                datasets,
                DriftRows(database),
                OutcomeRows(database),
                ParquetOutcomes(objects),
                DetachedJobs(files, local),
                storage,
            ),
            retraining=RetrainingActivities(RetrainingRows(database), DeliveryRows(database), runs, StoredSources(objects)),
            labelstudio=LabelStudioActivities(SentTaskRows(database), DeliveryRows(database), studio),
        )


def build_worker(client: Client, spec: WorkerSpec, settings: Settings, executor: object) -> Worker:
    """A worker as every process and test makes it."""
    return Worker(
        client,
        task_queue=spec.queue,
        workflows=spec.workflows,
        activities=spec.activities,
        activity_executor=executor,  # type: ignore[arg-type]
        interceptors=[Guard()],
        max_concurrent_activities=settings.worker.threads,
        max_heartbeat_throttle_interval=timedelta(seconds=1),
        default_heartbeat_throttle_interval=timedelta(seconds=1),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),  # after kill -9 its workflow tasks wait this long for it
        graceful_shutdown_timeout=timedelta(seconds=settings.worker.shutdown_seconds),
    )
