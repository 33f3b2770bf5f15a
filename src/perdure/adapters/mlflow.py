"""MLflow as a projection of rows: every push finds by tag what an earlier one made, so a repeat says the same again."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.config import Settings, resolve_secret
from perdure.errors import TrackingUnavailable
from perdure.messages.pipeline import RunState
from perdure.ports import PendingMetrics, PendingRelease, PendingRun, PendingVersion
from perdure.registry import CHAMPION, VERSION_TAG, Seen, version_tags

RUN_TAG = "perdure.run_id"
LOADER = "perdure_predictor"  # the copy of `perdure.predictor` beside the model: a stock client needs no Perdure
NEEDED = ("numpy", "polars", "xgboost")
BATCH = 1000  # MLflow's own limit of metrics per call
STATUS = {
    RunState.RUNNING: "RUNNING",
    RunState.PAUSED: "RUNNING",
    RunState.SUCCEEDED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "KILLED",
    RunState.TERMINATED: "KILLED",
}


class Tracking:
    """The tracking server and registry at one URL. Raises `TrackingUnavailable` where it does not answer."""

    def __init__(self, settings: Settings, objects: ObjectStore) -> None:
        _quiet(settings)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=settings.mlflow.url, registry_uri=settings.mlflow.url)
        self._objects = objects

    def push_run(self, run: PendingRun) -> str:
        """The MLflow run of *run* with its parameters, tags and state; returns MLflow's run id."""
        from mlflow.entities import Param

        with _translated():
            external = run.external_id or self._find_run(run) or self._create_run(run)
            params = [Param(key, str(value)[:6000]) for key, value in run.params.items()]
            for start in range(0, len(params), 100):  # each time: whoever made the run may have died before
                self._client.log_batch(external, params=params[start : start + 100])
            for key, value in {**run.tags, "perdure.state": run.state.value}.items():
                self._client.set_tag(external, key, value)
            status = STATUS[run.state]
            if status == "RUNNING":
                self._client.update_run(external, status=status)
            else:
                self._client.set_terminated(external, status=status, end_time=_millis(run.finished_at))
            return external

    def _find_run(self, run: PendingRun) -> str | None:
        found = self._client.search_runs([self._experiment(run.pipeline)], f"tags.`{RUN_TAG}` = '{run.id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create_run(self, run: PendingRun) -> str:
        created = self._client.create_run(
            self._experiment(run.pipeline),
            start_time=_millis(run.started_at),
            run_name=run.workflow_id,
            tags={RUN_TAG: str(run.id), **run.tags},
        )
        return str(created.info.run_id)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if (known := self._client.get_experiment_by_name(name)) is not None:
            return str(known.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:  # somebody else made it meanwhile
            known = self._client.get_experiment_by_name(name)
            if known is None:
                raise
            return str(known.experiment_id)

    def push_metrics(self, metrics: PendingMetrics) -> None:
        """Training metrics by round, at the times of their rows: MLflow keeps one of equal points."""
        from mlflow.entities import Metric

        points = [Metric(key, float(value), _millis(at), round) for round, values, at in metrics.rounds for key, value in values.items()]
        with _translated():
            for start in range(0, len(points), BATCH):
                self._client.log_batch(metrics.external_run, metrics=points[start : start + BATCH])

    def push_version(self, pending: PendingVersion) -> str:
        """The registered version with its artifact, tags and evaluation metrics; returns MLflow's version number."""
        from mlflow.entities import Metric

        version = pending.version
        with _translated():
            external = pending.external_id or self._find_version(pending) or self._register(pending)
            for key, value in version_tags(version.number, pending.tags, pending.events).items():
                self._client.set_model_version_tag(version.model, external, key, value)
            if pending.metrics:
                self._client.log_batch(
                    pending.external_run, metrics=[Metric(f"test/{key}", float(value), 0, 0) for key, value in pending.metrics.items()]
                )
            return external

    def _find_version(self, pending: PendingVersion) -> str | None:
        found = self._client.search_model_versions(f"name = '{pending.version.model}' and run_id = '{pending.external_run}'")
        return str(found[0].version) if found else None

    def _register(self, pending: PendingVersion) -> str:
        from mlflow.exceptions import MlflowException

        version = pending.version
        with tempfile.TemporaryDirectory(prefix="perdure-") as scratch:
            folder = self._model_folder(pending, Path(scratch))
            self._client.log_artifacts(pending.external_run, str(folder), "model")
        try:
            self._client.get_registered_model(version.model)
        except MlflowException as err:
            if err.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._client.create_registered_model(version.model, tags={"managed_by": "perdure"})
        source = f"{self._client.get_run(pending.external_run).info.artifact_uri}/model"
        created = self._client.create_model_version(
            version.model, source, run_id=pending.external_run, tags={VERSION_TAG: str(version.number)}
        )
        return str(created.version)

    def _model_folder(self, pending: PendingVersion, scratch: Path) -> Path:
        """A python_function model: the predictor's zip, and a copy of the module that loads it."""
        import mlflow.pyfunc

        code = scratch / f"{LOADER}.py"
        shutil.copyfile(predictor.__file__, code)
        data = self._objects.download(pending.version.predictor, scratch / "predictor.zip")
        folder = scratch / "model"
        sys.path.insert(0, str(scratch))  # save_model wants to find the loader
        try:
            mlflow.pyfunc.save_model(
                path=str(folder), loader_module=LOADER, data_path=str(data), code_paths=[str(code)], pip_requirements=_requirements()
            )
        finally:
            sys.path.remove(str(scratch))
        return folder

    def push_release(self, release: PendingRelease) -> None:
        """Alias ``champion`` on the version that serves."""
        with _translated():
            self._client.set_registered_model_alias(release.release.model, CHAMPION, release.external_version)

    def look(self, model: str, external: str | None) -> Seen:
        """What is registered under *model*, with the tags of its version *external*."""
        from mlflow.exceptions import MlflowException

        with _translated():
            try:
                champion = self._client.get_registered_model(model).aliases.get(CHAMPION)
                tags = self._client.get_model_version(model, external).tags if external is not None else {}
            except MlflowException as err:
                if err.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return Seen(there=False)
        return Seen(there=True, champion=str(champion) if champion is not None else None, tags=tags)

    def mend(self, model: str, external: str | None, tags: Mapping[str, str]) -> None:
        """Make *external* the champion and set its tags; None: no version is the champion."""
        with _translated():
            if external is None:
                self._client.delete_registered_model_alias(model, CHAMPION)
                return
            self._client.set_registered_model_alias(model, CHAMPION, external)
            for name, value in tags.items():
                self._client.set_model_version_tag(model, external, name, value)


def _quiet(settings: Settings) -> None:
    """MLflow is configured by the environment only: short waits, no telemetry, and S3 credentials for its artifacts."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    s3 = settings.s3
    if s3.endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = s3.endpoint
    if s3.access_key and s3.secret_key:
        os.environ["AWS_ACCESS_KEY_ID"] = resolve_secret(s3.access_key)
        os.environ["AWS_SECRET_ACCESS_KEY"] = resolve_secret(s3.secret_key)
    os.environ.setdefault("AWS_DEFAULT_REGION", s3.region)


def _requirements() -> list[str]:
    found = []
    for package in NEEDED:
        for name in (package, f"{package}-cpu"):
            try:
                found.append(f"{package}=={importlib.metadata.version(name)}")
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def _millis(at: Any) -> int:
    return int(at.timestamp() * 1000)


@contextmanager
def _translated() -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except RequestException as err:
        raise TrackingUnavailable(f"MLflow does not answer: {type(err).__name__}") from err
    except MlflowException as err:
        if err.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            raise TrackingUnavailable(f"MLflow does not answer properly: {str(err)[:300]}") from err
        raise
