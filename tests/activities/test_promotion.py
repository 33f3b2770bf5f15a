"""Promotion's activities against ports that answer what a test says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from temporalio.testing import ActivityEnvironment

from perdure.activities.promotion import PromotionActivities
from perdure.messages.common import ArtifactRef, Json
from perdure.messages.pipeline import RunState, StepKind
from perdure.messages.promotion import ClosePromotion, PromoteRequest
from perdure.ports import Evaluation, ModelVersion, PipelineVersion, Promotion, Release, Run, StepRun

RELEASE = Release(
    id=uuid4(), model="m", model_version=uuid4(), number=1, since=datetime(2026, 11, 22, tzinfo=UTC), until=None, actor="perdure"
)

REF = ArtifactRef(uri="s3://b/p", sha256="0" * 64)
SPEC: Json = {"name": "m", "data": {"source": {"uri": "x.tsv", "format": "tsv"}, "target": {"column": "y"}}}
PIPELINE = PipelineVersion(id=uuid4(), name="m", number=1, sha256="0" * 64, spec=SPEC)


class Rows:
    """The step run and the promotion of one run."""

    def __init__(self) -> None:
        self.row = StepRun(id=uuid4(), run_id=uuid4(), round=0, step=StepKind.PROMOTE, state="running")
        self.finished: list[Json] = []
        self.other: str | None = None
        self.promotion: Promotion | None = None

    def request(self) -> PromoteRequest:
        return PromoteRequest(run_id=self.row.run_id, model="m", model_version=uuid4(), evaluation=uuid4())

    def step(self, step_run: object) -> StepRun:
        assert step_run == self.row.id
        return self.row

    def begin(self, run_id: object, round: int, step: StepKind, scheduled: datetime) -> StepRun:
        assert (run_id, step) == (self.row.run_id, self.row.step)
        return self.row

    def run(self, run_id: object) -> Run:
        return Run(id=self.row.run_id, workflow_id="run/m/2", pipeline=PIPELINE, spec=PIPELINE.spec, state=RunState.RUNNING)

    def version(self, model_version: object) -> ModelVersion:
        return ModelVersion(id=uuid4(), model="m", number=3, predictor=REF, dataset_version=uuid4(), run_id=uuid4(), rounds=1)

    def champion(self, model: str) -> None:
        return None

    def asked_by(self, model_version: object, besides: object) -> str | None:
        assert besides == self.row.run_id
        return self.other

    def open(self, *_: Any, **__: Any) -> Promotion:
        assert self.promotion is not None, "a step that has ended is not opened"
        return self.promotion

    def finish(self, step_run: object, result: Json, reason: str) -> StepRun:
        assert step_run == self.row.id
        self.finished.append(result)
        self.row = StepRun(
            id=self.row.id, run_id=self.row.run_id, round=0, step=StepKind.PROMOTE, state="succeeded", reason=reason, result=result
        )
        return self.row

    def close(self, promotion: object, *, release: bool, **_: Any) -> Release | None:
        assert promotion == self.row.id
        return RELEASE if release else None


def test_a_promotion_that_is_closed_again_after_a_reset_keeps_its_reason() -> None:
    rows = Rows()
    activities = PromotionActivities(rows, rows, rows, rows)  # type: ignore[arg-type]
    first = activities.close(ClosePromotion(promotion=rows.row.id, release=True, reason="approved by ann"))
    again = activities.close(ClosePromotion(promotion=rows.row.id, release=True, reason="this version serves already"))
    assert first == again
    assert (first.released, first.reason, first.release) == (True, "approved by ann", RELEASE.id)
    assert [result["reason"] for result in rows.finished] == ["approved by ann"]


@pytest.mark.parametrize("state", ["released", "refused"])
def test_what_was_decided_before_a_reset_is_the_outcome(state: str) -> None:
    rows = Rows()
    verdict = Evaluation(
        id=uuid4(), model_version=uuid4(), champion_version=None, passed=True, verdicts=[], metrics={}, evidence_sha256="e"
    )
    rows.promotion = Promotion(
        id=rows.row.id, model="m", model_version=uuid4(), evaluation=verdict, requested_by="ann", state=state, reason="because"
    )
    activities = PromotionActivities(rows, rows, rows, rows)  # type: ignore[arg-type]
    for promotion in (rows.promotion, None):  # decided, but killed before the step ended; then the step, ended
        rows.promotion = promotion
        outcome = ActivityEnvironment().run(activities.open, rows.request()).outcome
        assert outcome is not None
        assert (outcome.promotion, outcome.released, outcome.reason) == (rows.row.id, state == "released", "because")
        assert outcome.release == (RELEASE.id if state == "released" else None)


def test_a_version_that_people_are_asked_about_elsewhere_ends_the_step() -> None:
    rows = Rows()
    activities = PromotionActivities(rows, rows, rows, rows)  # type: ignore[arg-type]
    assert ActivityEnvironment().run(activities.elsewhere, rows.request()) is None
    assert rows.row.state == "running"
    rows.other = "run/m/1"
    for _ in range(2):
        outcome = ActivityEnvironment().run(activities.elsewhere, rows.request())
        assert outcome is not None
        assert (outcome.released, outcome.reason) == (False, "version 3 is up for decision in run/m/1")
    assert len(rows.finished) == 1
