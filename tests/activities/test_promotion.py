"""Promotion's activities against ports that answer what a test says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from perdure.activities.promotion import PromotionActivities
from perdure.messages.common import Json
from perdure.messages.pipeline import StepKind
from perdure.messages.promotion import ClosePromotion
from perdure.ports import Release, StepRun

RELEASE = Release(
    id=uuid4(), model="m", model_version=uuid4(), number=1, since=datetime(2026, 11, 22, tzinfo=UTC), until=None, actor="perdure"
)


class Rows:
    """The step run and the promotion of one run."""

    def __init__(self) -> None:
        self.row = StepRun(id=uuid4(), run_id=uuid4(), round=0, step=StepKind.PROMOTE, state="running")
        self.finished: list[Json] = []

    def step(self, step_run: object) -> StepRun:
        assert step_run == self.row.id
        return self.row

    def finish(self, step_run: object, result: Json, reason: str) -> None:
        assert step_run == self.row.id
        self.finished.append(result)
        self.row = StepRun(
            id=self.row.id, run_id=self.row.run_id, round=0, step=StepKind.PROMOTE, state="succeeded", reason=reason, result=result
        )

    def close(self, promotion: object, **_: Any) -> Release:
        assert promotion == self.row.id
        return RELEASE


def test_a_promotion_that_is_closed_again_after_a_reset_keeps_its_reason() -> None:
    rows = Rows()
    activities = PromotionActivities(rows, rows, rows, rows)  # type: ignore[arg-type]
    first = activities.close(ClosePromotion(promotion=rows.row.id, release=True, reason="approved by ann"))
    again = activities.close(ClosePromotion(promotion=rows.row.id, release=True, reason="this version serves already"))
    assert first == again
    assert (first.released, first.reason, first.release) == (True, "approved by ann", RELEASE.id)
    assert [result["reason"] for result in rows.finished] == ["approved by ann"]
