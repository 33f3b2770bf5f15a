"""Rows to test with: a small pipeline whose runs go as far as a test wants."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from perdure.keys import digest, step_key
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import StepKind
from perdure.metadata import tables as t
from perdure.metadata.database import Database
from perdure.metadata.repository import DatasetRows, ModelRows, ProjectionRows, PromotionRows, RunRows, StepRows
from perdure.ports import DatasetVersion, Evaluation, ModelVersion, Promotion, Run, StepRun, Verdict

SPEC: Json = {
    "name": "moderation",
    "data": {"source": {"uri": "sms.tsv"}},
    "train": {"params": {"rounds": 200, "max_depth": 6}},
    "promote": {"approval": {"approvers": [], "cli": True}},
}


def ref(name: str, kind: str = "models") -> ArtifactRef:
    """An artifact whose content is its name."""
    return ArtifactRef(uri=f"s3://perdure/{kind}/{digest(name)}/{name}", sha256=digest(name), size=len(name))


def as_json(artifact: ArtifactRef) -> Json:
    return {"uri": artifact.uri, "sha256": artifact.sha256, "size": artifact.size}


def components(**changed: Any) -> Json:
    return {"code": "c0de", "params": "pa", "inputs": ["in"], "environment": "env"} | changed


def key_of(parts: Json, step: str = "train") -> str:
    return step_key(step, parts["code"], parts["params"], parts["inputs"], parts["environment"])


class World:
    """The repository of one tenant, and rows in it. Every method is as repeatable as what it calls."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs, self.steps, self.datasets = RunRows(database), StepRows(database), DatasetRows(database)
        self.models, self.promotions, self.projections = ModelRows(database), PromotionRows(database), ProjectionRows(database)

    def run(self, key: str = "1", *, chain: str = "first", spec: Json = SPEC, code: str | None = "code.zip", **request: Any) -> Run:
        package = ref(code, "code") if code else None
        version = self.runs.apply(spec, digest(spec), package, "a1b2c3", "ann")
        return self.runs.open(workflow_id=f"run/{spec['name']}/{key}", chain=chain, pipeline=version.id, spec=spec, request=request)

    def step(self, run: Run, kind: StepKind = StepKind.TRAIN, round: int = 0) -> StepRun:
        return self.steps.begin(run.id, round, kind)

    def dataset(self, run: Run, manifest: str = "manifest.json", name: str = "moderation") -> DatasetVersion:
        return self.datasets.commit(self.step(run, StepKind.PREPARE).id, name, dataset_result(manifest), "miss: new")

    def model(self, run: Run, predictor: str = "predictor.zip", model: str = "moderation") -> ModelVersion:
        dataset = self.dataset(run)
        result = {"predictor": as_json(ref(predictor)), "rounds": 200, "metrics": {"train-auc": 0.99}}
        return self.models.commit(self.step(run).id, model, dataset.id, result, "")

    def evaluation(self, run: Run, version: ModelVersion, *, champion: ModelVersion | None = None, passed: bool = True) -> Evaluation:
        step = self.step(run, StepKind.EVALUATE)
        return self.models.commit_evaluation(
            step.id,
            model_version=version.id,
            dataset_version=version.dataset_version,
            champion=champion.id if champion else None,
            verdicts=[Verdict(gate={"metric": "roc_auc", "min": 0.95}, passed=passed, reason="roc_auc is 0.98", value=0.98)],
            evidence_sha256=digest([str(version.id), "evidence"]),
            result={"figures": figures(), "scores": as_json(ref("scores.parquet", "reports"))},
            reason="",
        )

    def promotion(self, run: Run, *, required: int = 0, passed: bool = True, champion: ModelVersion | None = None) -> Promotion:
        version = self.model(run, f"predictor of {run.workflow_id}")
        evaluation = self.evaluation(run, version, champion=champion, passed=passed)
        step = self.step(run, StepKind.PROMOTE)
        return self.promotions.open(step.id, version.id, evaluation.id, required=required, deadline_seconds=3600)

    def released(self, key: str, champion: ModelVersion | None = None) -> ModelVersion:
        promotion = self.promotion(self.run(key), champion=champion)
        self.promotions.close(promotion.id, release=True, reason="all gates passed", actor="perdure")
        return self.models.version(promotion.model_version)

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is stored of this tenant."""
        with self.database.transaction() as session:
            return {
                table.name: sorted(
                    (tuple(row) for row in session.execute(select(table).where(table.c.tenant == self.database.tenant))), key=repr
                )
                for table in t.metadata.sorted_tables
            }

    def detail(self, step: UUID) -> t.StepRun:
        with self.database.transaction() as session:
            return session.get_one(t.StepRun, step)


def dataset_result(manifest: str = "manifest.json") -> Json:
    return {
        "manifest": as_json(ref(manifest, "datasets")),
        "profile": as_json(ref(f"profile of {manifest}", "datasets")),
        "state": as_json(ref(f"state of {manifest}", "datasets")),
        "rows": {"train": 80, "test": 20, "quarantined": 2},
        "delta": {"uri": "s3://perdure/delta/moderation", "version": 3},
        "schema": [{"name": "label", "dtype": "String"}, {"name": "text", "dtype": "String"}],
        "classes": ["ham", "spam"],
        "failures": [{"column": "text", "check": "str_length", "count": 2, "example": "NUL \x00 and more"}],
        "source": {
            "uri": "file:///data/sms.tsv",
            "digest": digest("source"),
            "bytes": 477_907,
            "files": [{"uri": "file:///data/sms.tsv", "sha256": digest("sms"), "bytes": 477_907}],
        },
    }


def figures() -> Json:
    scored = {
        "metrics": {"roc_auc": 0.98, "log_loss": 0.05},
        "slices": {"length": {"short": {"rows": 7, "metrics": {"roc_auc": None, "log_loss": 0.1}}}},
    }
    return {"rows": 20, "challenger": scored, "champion": None}
