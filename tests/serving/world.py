"""Models to serve: real predictors on S3, and the rows that say who answers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import xgboost
from sqlalchemy import func, select, update

from perdure import predictor
from perdure.adapters.s3 import ObjectStore
from perdure.messages.common import ArtifactRef
from perdure.messages.pipeline import StepKind
from perdure.messages.rollout import TrafficKind
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.listening import TRAFFIC
from perdure.metadata.repository import ModelRows
from perdure.ports import ModelVersion
from tests.metadata.world import World

SCHEMA = [
    {"name": "size", "dtype": "Float64"},
    {"name": "age", "dtype": "Int64"},
    {"name": "member", "dtype": "Boolean"},
    {"name": "city", "dtype": "String"},
    {"name": "seen", "dtype": "Date"},
    {"name": "kind", "dtype": "String"},
]
FEATURES = ["size", "age", "member", "length", "day"]
STEPS = """
import polars as pl

def features(frame):
    if "burst" in frame["city"].to_list():
        raise ValueError("no such city")
    return frame.select("size", "age", "member", pl.col("city").str.len_bytes().alias("length"), pl.col("seen").dt.day().alias("day"))
"""
PREDICT = """
import os, time
import numpy as np

def predict(model_dir, features):
    ages = np.nan_to_num(features[:, 1])
    if (ages == 13).any():
        os._exit(3)
    if (ages == 17).any():
        time.sleep(600)
    return 1 / (1 + np.exp(-ages / 50))
"""
ROW: dict[str, Any] = {"size": 1.5, "age": 40, "member": True, "city": "Bonn", "seen": "2026-02-03"}


def packed(**files: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    return body.getvalue()


def trained(folder: Path, seed: int, *, classes: tuple[str, ...] = ("cat", "dog"), trees: int = 5) -> Path:
    """A predictor of noise: other seeds, other scores."""
    dice = np.random.default_rng(seed)
    matrix = dice.normal(size=(300, len(FEATURES))).astype(np.float32) * [1, 40, 1, 5, 10]
    objective: dict[str, Any] = {"objective": "reg:squarederror"}
    labels = dice.normal(size=300)
    if classes:
        labels = dice.integers(0, len(classes), 300)
        objective = {"objective": "multi:softprob", "num_class": len(classes)} if len(classes) > 2 else {"objective": "binary:logistic"}
    booster = xgboost.train(
        {**objective, "seed": seed, "nthread": 1, "max_depth": 4},
        xgboost.DMatrix(matrix, labels, feature_names=FEATURES),
        num_boost_round=trees,
    )
    return _built(folder / f"{seed}.zip", classes, format="xgboost-ubj", files={"model.ubj": bytes(booster.save_raw("ubj"))}, code=STEPS)


def custom(folder: Path) -> Path:
    """A predictor whose model is its owner's code."""
    return _built(folder / "custom.zip", ("cat", "dog"), format="custom", files={"weights": b"1"}, predict="model:predict", code=STEPS)


def _built(path: Path, classes: tuple[str, ...], *, code: str, **parts: Any) -> Path:
    manifest = {
        "transform": {"reference": "steps:features"},
        "target": {"column": "kind"},
        "features": {"names": FEATURES},
        "classes": list(classes),
        "schema": SCHEMA,
    }
    return predictor.build(path, manifest=manifest, code=packed(steps=code, model=PREDICT), **parts)


class Served:
    """Rows about models that are served. Changes are told as the repository tells them."""

    def __init__(self, database: Database, objects: ObjectStore, folder: Path) -> None:
        self.world, self._database, self._objects, self.folder = World(database), database, objects, folder

    def version(self, model: str, path: Path) -> ModelVersion:
        """A version of *model* whose artifact is *path*."""
        return self._version(model, self._objects.put("models", "predictor.zip", path))

    def _version(self, model: str, ref: ArtifactRef) -> ModelVersion:
        run = self.world.run(uuid4().hex)
        dataset = self.world.dataset(run)
        result = {"predictor": ref.as_json(), "rounds": 5, "metrics": {}}
        return ModelRows(self._database).commit(self.world.step(run).id, model, dataset.id, result, "")

    def missing(self, model: str) -> ModelVersion:
        """A version whose artifact is not there."""
        return self._version(model, ArtifactRef(uri=self._objects.uri(f"models/{uuid4().hex}/predictor.zip"), sha256="0" * 64, size=5))

    def release(self, version: ModelVersion) -> UUID:
        """It serves from now on, instead of the one before."""
        id = uuid4()
        with self._database.transaction() as session:
            now = session.scalars(select(func.clock_timestamp())).one()
            open = (t.Release.model == version.model, t.Release.tenant == self._database.tenant, t.Release.until.is_(None))
            session.execute(update(t.Release).where(*open).values(until=now))
            session.add(
                t.Release(
                    id=id,
                    tenant=self._database.tenant,
                    model=version.model,
                    model_version_id=version.id,
                    since=now,
                    actor="test",
                    reason="test",
                )
            )
            session.execute(select(func.pg_notify(TRAFFIC, version.model)))
        return id

    def traffic(self, version: ModelVersion, kind: TrafficKind, share: float, unit: str | None = None) -> UUID:
        """It takes part from now on; the one that did before does no longer."""
        id = uuid4()
        run = self.world.run(uuid4().hex)
        step = self.world.step(run, StepKind.PROMOTE)
        evaluation = self.world.evaluation(run, version)
        self.world.promotions.open(step.id, version.id, evaluation.id, required=0, deadline_seconds=60)
        self.end_traffic(version.model)
        with self._database.transaction() as session:
            session.add(
                t.Traffic(
                    id=id,
                    tenant=self._database.tenant,
                    model=version.model,
                    model_version_id=version.id,
                    promotion_id=step.id,
                    stage=0,
                    kind=kind,
                    share=share,
                    since=func.clock_timestamp(),
                )
            )
            session.flush()
            if unit is not None:
                session.add(
                    t.Experiment(
                        id=id,
                        tenant=self._database.tenant,
                        model=version.model,
                        promotion_id=step.id,
                        champion_id=version.id,
                        challenger_id=version.id,
                        spec={"unit": unit},
                        started_at=func.now(),
                    )
                )
            session.execute(select(func.pg_notify(TRAFFIC, version.model)))
        return id

    def end_traffic(self, model: str) -> None:
        with self._database.transaction() as session:
            open = (t.Traffic.model == model, t.Traffic.tenant == self._database.tenant, t.Traffic.until.is_(None))
            session.execute(update(t.Traffic).where(*open).values(until=func.clock_timestamp(), outcome="test"))
            session.execute(select(func.pg_notify(TRAFFIC, model)))
