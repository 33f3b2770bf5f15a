"""`python -m perdure.workers.reconciler`: one pass every few seconds until SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading

from prometheus_client import Counter, Gauge, start_http_server

from perdure.adapters.mlflow import Tracking
from perdure.adapters.ray_jobs import RayJobs
from perdure.adapters.s3 import ObjectStore
from perdure.adapters.temporal import TemporalExecutions
from perdure.config import Settings
from perdure.errors import Transient
from perdure.metadata.database import Database
from perdure.metadata.repository import ProjectionRows, RunRows, StepRows
from perdure.ports import Compute
from perdure.reconciler import Reconciler
from perdure.registry import Looks
from perdure.telemetry import configure_logs
from perdure.workers import drift_gauges
from perdure.workers.asking import asking

EVERY = 2.0  # seconds between passes

log = logging.getLogger("perdure.workers.reconciler")
pushed = Counter("perdure_reconciled_objects", "Objects made equal to their rows")
repaired = Counter("perdure_registry_repairs", "Models that MLflow's registry showed otherwise than rows, and that were put right")
failing = Gauge("perdure_reconciler_failing_parts", "Parts of the last pass that could not be done")


def main(settings: Settings) -> None:
    """Reconcile until asked to stop; every part may be away meanwhile."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if settings.worker.metrics_port:
        start_http_server(settings.worker.metrics_port, addr=settings.worker.metrics_host)
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Database.open(settings))
        engines: list[Compute] = [stack.enter_context(contextlib.closing(RayJobs(settings.ray)))] if settings.ray.url else []
        tracking = Tracking(settings, ObjectStore(settings.s3, attempts=2)) if settings.mlflow.url else None
        executions = stack.enter_context(TemporalExecutions.open(settings))
        rows = ProjectionRows(database)
        looks = Looks(rows, tracking) if tracking is not None else None
        reconciler = Reconciler(RunRows(database), StepRows(database), rows, executions, tracking, engines, looks)
        stack.enter_context(asking(settings, database, executions))
        log.info("reconciler ready")
        while not stop.is_set():
            done = reconciler.run_once()
            pushed.inc(done.done)
            repaired.inc(done.repaired)
            failing.set(done.failed)
            with contextlib.suppress(Transient):
                drift_gauges.show(database)
            stop.wait(EVERY)


if __name__ == "__main__":
    settings = Settings()
    configure_logs(settings.log_level)
    main(settings)
