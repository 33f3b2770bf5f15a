"""Tasks in people's hands. A lease that has run out needs nobody to notice it: its task is simply free again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, ScalarSelect, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from perdure.errors import AccessDenied, Conflict, LeaseLost, NotFound
from perdure.labeling.assistance import shown
from perdure.labeling.ports import Held, Incoming, Lease
from perdure.labeling.spec import Campaign, load
from perdure.messages.labeling import AnnotationStatus, AnswerResult, AssignmentState, Assist, CampaignState, LabelerStatus, TaskState
from perdure.metadata import tables as t
from perdure.metadata.database import again
from perdure.metadata.repository.answers import AnswerRows, share_campaign

_WIDER = 4  # candidates looked at for each task wanted: some were leased to others a moment ago


class LabelRows(AnswerRows):
    """`perdure.labeling.ports.Labels` on Postgres: leases beside the answers."""

    def lease(self, campaign: UUID, labeler: str, most: int) -> list[Lease]:
        """Up to *most* tasks for *labeler*, none leased twice; empty where nothing is to be done. Raises AccessDenied for a blocked one."""
        with self._database.transaction() as session:
            query = select(t.Campaign.spec, t.Campaign.state).where(t.Campaign.id == campaign, t.Campaign.tenant == self._tenant)
            row = session.execute(query).one_or_none()
            if row is None:
                raise NotFound(f"there is no campaign {campaign}", field="campaign")
            who = self.known(session, [labeler])[labeler]
            if who.status is LabelerStatus.BLOCKED:
                raise AccessDenied(
                    f"{labeler} gets no tasks: too many answers to known questions were wrong", remedy="ask the owner of the campaign"
                )
            if row.state is not CampaignState.OPEN:
                return []
            spec = load(row.spec)
            self._expire(session, who.id)
            chosen = self._chosen(session, campaign, who.id, spec, most)
            return [lease for task in chosen if (lease := self._hold(session, task, who.id, spec))]

    def extend(self, assignment: UUID, token: UUID) -> datetime:
        """Hold a lease for longer. Raises LeaseLost."""
        with self._database.transaction() as session:
            held = self._held(session, assignment, token)
            spec = session.scalars(
                select(t.Campaign.spec).join(t.Task, t.Task.campaign_id == t.Campaign.id).where(t.Task.id == held.task_id)
            ).one()
            held.expires_at = datetime.now(UTC) + load(spec).lease
            return held.expires_at

    def release(self, assignment: UUID, token: UUID) -> None:
        """Give a task back. Raises LeaseLost."""
        with self._database.transaction() as session:
            held = self._held(session, assignment, token)
            held.state, held.ended_at = AssignmentState.RELEASED, datetime.now(UTC)

    def resume(self, campaign: UUID, labeler: str, most: int) -> list[Lease]:
        """What *labeler* holds already, with new tokens: where it was shown before, it is lost. So two windows do not show the same."""
        a = t.Assignment
        query = (
            select(a, t.Task, t.Campaign.spec)
            .join(t.Task, t.Task.id == a.task_id)
            .join(t.Campaign, t.Campaign.id == t.Task.campaign_id)
            .join(t.Labeler, t.Labeler.id == a.labeler_id)
            .where(t.Campaign.id == campaign, t.Campaign.tenant == self._tenant, t.Campaign.state != CampaignState.CLOSED)
            .where(t.Labeler.principal == labeler, t.Labeler.status != LabelerStatus.BLOCKED)
            .where(a.state == AssignmentState.LEASED, a.expires_at > func.now(), t.Task.state == TaskState.OPEN)
            .order_by(a.started_at, t.Task.priority.desc(), t.Task.id)
            .limit(most)
            .with_for_update(of=a)
        )
        with self._database.transaction() as session:
            leases = []
            for held, task, spec in session.execute(query):
                held.lease_token, held.expires_at = uuid4(), datetime.now(UTC) + load(spec).lease
                leases.append(
                    Lease(
                        assignment=held.id,
                        token=held.lease_token,
                        expires_at=held.expires_at,
                        task=task.key,
                        payload=task.payload,
                        prediction=task.prediction if held.prediction_shown else None,
                    )
                )
            return leases

    @again
    def take_back(self, campaign: UUID, answer: Incoming) -> AnswerResult:
        """Delete an answer that was given under a lease; its task is in its labeler's hands again. Raises Conflict in a closed campaign."""
        a = t.Assignment
        with self._database.transaction() as session:
            share_campaign(session, campaign)
            row = session.execute(
                select(t.Campaign.spec, t.Campaign.state).where(t.Campaign.id == campaign, t.Campaign.tenant == self._tenant)
            ).one_or_none()
            if row is not None and row.state is CampaignState.CLOSED:
                raise Conflict("the campaign is closed: your answer stands as it is", field="campaign")
            result = self.accept_within(session, campaign, [replace(answer, deleted=True)])[0]
            if row is not None and answer.lease and not result.error and not result.duplicate:
                assignment, token = answer.lease
                other = aliased(a)  # of the same task: another window of theirs has it, or has answered
                mine = (other.task_id == a.task_id, other.labeler_id == a.labeler_id, other.id != a.id)
                session.execute(
                    update(a)
                    .where(a.id == assignment, a.lease_token == token)
                    .where(~exists().where(*mine, other.state.in_((AssignmentState.LEASED, AssignmentState.SUBMITTED))))
                    .where(a.state.in_((AssignmentState.SUBMITTED, AssignmentState.EXPIRED, AssignmentState.SKIPPED)))
                    .values(state=AssignmentState.LEASED, ended_at=None, expires_at=datetime.now(UTC) + load(row.spec).lease)
                )
            return result

    def held(self, leases: Sequence[tuple[UUID, UUID]]) -> list[Held | None]:
        """What the *leases* (assignment, token) are about, whether they still run, ran out or were answered; None for one that is lost."""
        query = (
            select(t.Assignment.id, t.Assignment.lease_token, t.Task.campaign_id, t.Task.key, t.Labeler.principal)
            .select_from(t.Assignment)
            .join(t.Task, t.Task.id == t.Assignment.task_id)
            .join(t.Labeler, t.Labeler.id == t.Assignment.labeler_id)
            .where(t.Assignment.id.in_({assignment for assignment, _ in leases}), t.Assignment.tenant == self._tenant)
            .where(t.Assignment.state != AssignmentState.RELEASED)
        )
        with self._database.transaction() as session:
            found = {
                (row.id, row.lease_token): Held(campaign=row.campaign_id, task=row.key, labeler=row.principal)
                for row in session.execute(query)
            }
        return [found.get(lease) for lease in leases]

    def _held(self, session: Session, assignment: UUID, token: UUID) -> t.Assignment:
        row = session.scalars(
            select(t.Assignment)
            .where(t.Assignment.id == assignment, t.Assignment.lease_token == token, t.Assignment.tenant == self._tenant)
            .where(t.Assignment.state == AssignmentState.LEASED, t.Assignment.expires_at > func.now())
            .with_for_update()
        ).one_or_none()
        if row is None:
            raise _lost()
        return row

    def _expire(self, session: Session, labeler: UUID) -> None:
        a = t.Assignment
        session.execute(
            update(a)
            .where(a.labeler_id == labeler, a.state == AssignmentState.LEASED, a.expires_at <= func.now())
            .values(state=AssignmentState.EXPIRED, ended_at=func.now())
        )

    def _free(self, session: Session, campaign: UUID, labeler: UUID, most: int) -> list[t.Task]:
        """Tasks that fewer hold than are wanted, however many of those before them are in others' hands.

        Locked first, and looked at again then: whoever leases must hold the task's row, so what is seen now stays so.
        """
        task = t.Task
        query = (
            select(task)
            .where(task.campaign_id == campaign, task.state == TaskState.OPEN, task.gold.is_(None), ~_answered(labeler), ~_has(labeler))
            .where(task.assist.is_distinct_from(Assist.ACCEPT), task.n_valid + _holders() < task.overlap)
            .order_by(task.priority.desc(), task.id)
            .limit(most * _WIDER)
            .with_for_update(skip_locked=True)
        )
        candidates = list(session.scalars(query))
        others = select(t.Assignment.task_id, t.Assignment.labeler_id).where(
            t.Assignment.task_id.in_([each.id for each in candidates]),
            t.Assignment.state == AssignmentState.LEASED,
            t.Assignment.expires_at > func.now(),
        )
        holders: dict[UUID, set[UUID]] = {}
        for row in session.execute(others):
            holders.setdefault(row.task_id, set()).add(row.labeler_id)
        free = [
            each
            for each in candidates
            if labeler not in holders.get(each.id, ()) and each.n_valid + len(holders.get(each.id, ())) < each.overlap
        ]
        return free[:most]

    def _chosen(self, session: Session, campaign: UUID, labeler: UUID, spec: Campaign, most: int) -> list[t.Task]:
        """Each place is a gold task's with the same chance, wherever it stands and however many are asked for at once.

        Where nothing else is to be done there is no gold either: who asks again and again would get all of it.
        """
        free = self._free(session, campaign, labeler, most)
        places = [random.random() < spec.gold.rate for _ in range(most)] if free else []
        gold = self._gold(session, campaign, labeler, sum(places)) if any(places) else []
        chosen = []
        for hidden in places:
            if hidden and gold:
                chosen.append(gold.pop())
            elif free:
                chosen.append(free.pop(0))
            else:
                break
        return chosen

    def _gold(self, session: Session, campaign: UUID, labeler: UUID, most: int) -> list[t.Task]:
        """Tasks whose answer is known, which this labeler has not seen."""
        task = t.Task
        query = select(task).where(task.campaign_id == campaign, task.gold.is_not(None), ~_answered(labeler), ~_has(labeler))
        return list(session.scalars(query.order_by(func.random()).limit(most).with_for_update(skip_locked=True)))

    def _hold(self, session: Session, task: t.Task, labeler: UUID, spec: Campaign) -> Lease | None:
        """None where this labeler has come to hold the task by another request at the same time."""
        told = shown(task.id, task.prediction, task.assist, spec)
        lease = Lease(
            assignment=uuid4(),
            token=uuid4(),
            expires_at=datetime.now(UTC) + spec.lease,
            task=task.key,
            payload=task.payload,
            prediction=task.prediction if told else None,
        )
        added = self._add(
            session,
            t.Assignment,
            id=lease.assignment,
            task_id=task.id,
            labeler_id=labeler,
            state=AssignmentState.LEASED,
            lease_token=lease.token,
            expires_at=lease.expires_at,
            prediction_shown=told,
        )
        return lease if added else None


def _answered(labeler: UUID) -> ColumnElement[bool]:
    a = t.Annotation
    standing = a.status.in_((AnnotationStatus.VALID, AnnotationStatus.SKIPPED))
    return select(a.id).where(a.task_id == t.Task.id, a.labeler_id == labeler, standing).exists()


def _holders() -> ScalarSelect[int]:
    """How many hold a task now."""
    a = t.Assignment
    held = (a.task_id == t.Task.id, a.state == AssignmentState.LEASED, a.expires_at > func.now())
    return select(func.count()).select_from(a).where(*held).correlate(t.Task).scalar_subquery()


def _has(labeler: UUID) -> ColumnElement[bool]:
    a = t.Assignment
    held = a.state.in_((AssignmentState.LEASED, AssignmentState.SUBMITTED))
    return select(a.id).where(a.task_id == t.Task.id, a.labeler_id == labeler, held).exists()


def _lost() -> LeaseLost:
    return LeaseLost("this task is no longer in your hands", field="lease_token", remedy="lease again; an answer that was sent is kept")
