"""Runs job functions in this process, on a real S3: what a worker's activities would do, one after the other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from perdure.adapters.s3 import ObjectStore
from perdure.jobs import preparation
from perdure.jobs.context import JobContext
from perdure.jobs.latest import RunState
from perdure.jobs.preparation.limits import class_names
from perdure.jobs.status import StatusWriter
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.jobs import JobKind, JobRequest
from perdure.spec import pipeline as spec


class Silent:
    """Takes progress and tells nobody."""

    def update(self, **detail: Any) -> None:
        self.last = detail


class Jobs:
    """Jobs of one specification. ``progress`` is what the last one said."""

    def __init__(self, objects: ObjectStore, data: Json, *, code: ArtifactRef | None = None, **parts: Any) -> None:
        self.objects, self.code = objects, code
        self.spec = spec.load({"name": f"t{uuid4().hex[:8]}", "data": data, **parts})
        self.progress: Json = {}

    def run(self, function: Callable[[JobContext], Json], inputs: Json, index: int = 0) -> Json:
        """The function's result as it comes back from S3."""
        status = Silent()
        with tempfile.TemporaryDirectory() as scratch:
            request = JobRequest(
                job=f"test-{uuid4()}",
                kind=JobKind.PLAN,  # names the function for `perdure.jobs.main`, which is not asked here
                storage=f"s3://{self.objects.bucket}",
                spec=self.spec.as_json(),
                inputs=inputs,
                code=self.code,
                index=index,
            )
            run = RunState(self.objects, request.job)
            made = function(JobContext(request, self.spec, self.objects, run, Path(scratch), cast(StatusWriter, status)))
        self.progress = getattr(status, "last", {})
        return cast(Json, json.loads(json.dumps(made)))

    def prepare(self, labels: list[Json] | None = None, predictions: list[Json] | None = None) -> Prepared:
        """All jobs of a preparation; with *labels* (snapshots) where people are asked about rows, *predictions* about those."""
        people: Json = {} if labels is None else {"labels": labels}
        plan = self.run(preparation.plan, {} if predictions is None else {"predictions": predictions})
        indexes = range(len(plan["partitions"]))
        partitions = [self.run(preparation.partition, {"plan": plan, **people}, index) for index in indexes]
        state = self.run(preparation.fit, {"plan": plan, "partitions": partitions})["state"] if plan["fits"] else None
        classes = class_names(self.spec.data, partitions)
        features = [
            self.run(preparation.features, {"plan": plan, "partition": partitions[i], "state": state, "classes": classes}, i)
            for i in indexes
        ]
        inputs = {"plan": plan, "partitions": partitions, "features": features, "state": state, **people}
        return Prepared(self, inputs, self.run(preparation.commit, inputs))


class Prepared:
    """A committed data set."""

    def __init__(self, jobs: Jobs, inputs: Json, result: Json) -> None:
        self.jobs, self.inputs, self.result = jobs, inputs, result
        self.manifest: Json = jobs.objects.get_json(ArtifactRef.from_json(result["manifest"]))

    def table(self, *path: str) -> Any:
        """Rows of the files at *path* in the manifest, or None for no rows."""
        import polars as pl

        part: Any = self.manifest
        for name in path:
            part = part[name]
        bodies = [self.jobs.objects.get(ArtifactRef.from_json(file)) for file in part["files"]]
        return pl.concat([pl.read_parquet(body) for body in bodies]) if bodies else None

    def reasons(self) -> list[str]:
        """Why rows were set aside."""
        rows = self.table("quarantine")
        return [] if rows is None else sorted(rows["__reason"].to_list())
