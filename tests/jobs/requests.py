"""Data sets, owner's code and requests for tests of jobs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import polars as pl

from perdure.adapters.s3 import ObjectStore
from perdure.jobs.latest import put_request
from perdure.jobs.trainer import LABEL
from perdure.keys import canonical
from perdure.messages.common import ArtifactRef
from perdure.messages.jobs import JobKind, JobRequest, Resources, Submission

OWNER = Path(__file__).with_name("owner.py")


def frames(rows: int = 500, parts: int = 4, columns: int = 6, classes: int = 2) -> list[pl.DataFrame]:
    """Rows that can be learned from; ``classes=0`` for a regression."""
    rng = np.random.default_rng(7)
    made = []
    for _ in range(parts):
        x = rng.normal(size=(rows, columns)).astype("f4")
        score = x[:, 0] * x[:, 1] + x[:, 2]
        label = score if classes == 0 else np.digitize(score, np.linspace(-0.5, 0.5, classes - 1) if classes > 2 else [0.0])
        made.append(pl.DataFrame({f"f{i}": x[:, i] for i in range(columns)}).with_columns(pl.Series(LABEL, label.astype("f4"))))
    return made


def dataset(objects: ObjectStore, **kwargs: int) -> ArtifactRef:
    """The manifest of a dataset without a transform."""
    classes = {0: [], 2: ["no", "yes"], 3: ["no", "perhaps", "yes"]}[kwargs.get("classes", 2)]
    files = []
    made = frames(**kwargs)
    for index, frame in enumerate(made):
        body = io.BytesIO()
        frame.write_parquet(body)
        files.append({**objects.put("datasets", f"features-{index}.parquet", body.getvalue()).as_json(), "rows": frame.height})
    names = [name for name in made[0].columns if name != LABEL]
    manifest = {
        "version": 1,
        "classes": classes,
        "target": {"column": "y", "positive": None, "task": "classification" if classes else "regression"},
        "schema": [{"name": name, "dtype": "Float32"} for name in names] + [{"name": "y", "dtype": "String"}],
        "features": {"names": names, "files": files},
        "transform": None,
    }
    return objects.put("datasets", "manifest.json", canonical(manifest))


def package(objects: ObjectStore, source: str | None = None) -> ArtifactRef:
    """A code package with one module ``owner``."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(zipfile.ZipInfo("owner.py"), OWNER.read_text() if source is None else source)
    return objects.put("code", "code.zip", body.getvalue())


def training(manifest: ArtifactRef, *, code: ArtifactRef | None = None, classification: bool = True, **train: Any) -> JobRequest:
    """A request to train; *train* is the specification's section."""
    target = {"column": "y", "task": "classification" if classification else "regression"}
    spec = {
        "name": "test",
        "data": {"source": {"uri": "rows.csv", "format": "csv"}, "target": target},
        "train": {"engine": "local", **train},
    }
    scaling = train.get("scaling", {})
    return JobRequest(
        job=f"{uuid4()}-train",
        kind=JobKind.TRAIN,
        storage=manifest.uri.partition("/datasets/")[0],
        spec=spec,
        inputs={"manifest": manifest.as_json()},
        code=code,
        resources=Resources(
            **{name: scaling[name] for name in ("workers", "cpus_per_worker", "gpus_per_worker", "allow_cpu") if name in scaling}
        ),
    )


def submission(objects: ObjectStore, request: JobRequest, number: int = 1) -> Submission:
    """A start of *request*, which is stored."""
    return Submission(
        id=f"perdure-{request.job}-{number}",
        request=put_request(objects, request),
        resources=request.resources,
        code=request.code.sha256 if request.code else None,
    )
