"""What people decide about labelers: to block one, or to give one work again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.messages.labeling import AnnotationStatus, AssignmentState, CampaignState, LabelerStatus
from perdure.metadata import tables as t
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.rows import Rows


class LabelerRows(Rows):
    """Commands to labelers: each changes the row and appends to the audit, in one transaction; said again it changes nothing."""

    def block(self, labeler: str, actor: str, reason: str, *, take_back: bool = False) -> bool:
        """Give them no more tasks, nor count what they send; *take_back* their last answers, too. Whether this is new. Raises NotFound."""
        with self._database.transaction() as session:
            row = self._held(session, labeler)
            if row.status is LabelerStatus.BLOCKED:
                return False
            before = _told(row)
            row.status, row.status_at, row.requeue_due = LabelerStatus.BLOCKED, func.now(), take_back
            if take_back:
                self._poke(session, row)
            self._audit(session, "labeler.block", row.id, actor, reason=reason, before=before, after=_told(row) | {"take_back": take_back})
            return True

    def unblock(self, labeler: str, actor: str, reason: str) -> bool:
        """Give a blocked one tasks again. Their answers to gold are counted from 0 again, as the next would else block them at once.

        Whether this is new. Raises NotFound.
        """
        with self._database.transaction() as session:
            row = self._held(session, labeler)
            if row.status is not LabelerStatus.BLOCKED:
                return False
            before = _told(row)
            row.status, row.status_at, row.requeue_due = LabelerStatus.ACTIVE, func.now(), False
            row.gold_right = row.gold_wrong = 0
            self._hand_back(session, row)
            self._audit(session, "labeler.unblock", row.id, actor, reason=reason, before=before, after=_told(row))
            return True

    def _held(self, session: Session, labeler: str) -> t.Labeler:
        query = select(t.Labeler).where(t.Labeler.tenant == self._tenant, t.Labeler.principal == labeler)
        row = session.scalars(query.with_for_update(key_share=True)).one_or_none()
        if row is None:
            raise NotFound(
                f"nobody called {labeler!r} has ever asked for work", field="labeler", remedy="`perdure labelers list` names them"
            )
        return row

    def _hand_back(self, session: Session, row: t.Labeler) -> None:
        """Tasks that they had answered under a lease, and whose answers count no more, may be given to them again."""
        held, a = t.Assignment, t.Annotation
        theirs = (a.task_id == held.task_id, a.labeler_id == row.id)
        session.execute(
            update(held)
            .where(held.labeler_id == row.id, held.state == AssignmentState.SUBMITTED)
            .where(select(a.id).where(*theirs, a.status == AnnotationStatus.BLOCKED).exists())
            .where(~select(a.id).where(*theirs, a.status.in_((AnnotationStatus.VALID, AnnotationStatus.SKIPPED))).exists())
            .values(state=AssignmentState.EXPIRED)
            .execution_options(synchronize_session=False)
        )

    def _poke(self, session: Session, row: t.Labeler) -> None:
        """Have the campaigns looked at that they answered in: any look takes back in all of them, and one of them may have no workflow."""
        a = t.Annotation
        theirs = select(a.campaign_id).where(a.labeler_id == row.id)
        query = select(t.Campaign.workflow_id).where(t.Campaign.id.in_(theirs), t.Campaign.state != CampaignState.CLOSED)
        for workflow_id in session.scalars(query.order_by(t.Campaign.id)).all():
            poke(session, self._tenant, workflow_id)


def _told(row: t.Labeler) -> dict[str, Any]:
    return {"status": row.status.value, "gold_right": row.gold_right, "gold_wrong": row.gold_wrong}
