"""What of a campaign is in Label Studio: its project, its web hook, its tasks there, and how far it was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, text, tuple_, update
from sqlalchemy.orm import Session

from perdure.errors import NotFound, PerdureError, Permanent
from perdure.labeling.labelstudio.messages import SOURCE
from perdure.labeling.labelstudio.ports import Elsewhere, Unsent
from perdure.labeling.spec import load
from perdure.messages.labeling import AnnotationStatus, Assist, TaskState
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.messages import tell
from perdure.metadata.repository.rows import Rows

_SENT = text(
    """
    update external_ref set external_id = rows.external, overlap = :overlap, sent_at = coalesce(sent_at, now())
      from unnest(cast(:tasks as uuid[]), cast(:externals as bigint[])) as rows (task, external) where task_id = rows.task
    """
)


class SentTaskRows(Rows):
    """`perdure.labeling.ports.SentTasks` on Postgres."""

    def place(self, campaign: UUID, address: str, secret: str | None) -> Elsewhere:
        """The campaign's place there, its hook with it, made where there is none yet. Raises NotFound."""
        hook = f"ls-{campaign.hex}"
        with self._database.transaction() as session:
            owner = session.scalars(select(t.Campaign).where(t.Campaign.id == campaign, t.Campaign.tenant == self._tenant)).one_or_none()
            if owner is None:
                raise NotFound(f"there is no campaign {campaign}", field="campaign")
            made = {"id": hook, "provider": t.HookProvider.LABEL_STUDIO, "campaign_id": campaign, "created_by": "perdure"}
            self._add(session, t.Hook, **made, secrets=_secrets(secret))
            self._add(session, t.ExternalProject, campaign_id=campaign, hook_id=hook, address=address)
            known = session.scalars(select(t.Hook).where(t.Hook.id == hook).with_for_update(key_share=True)).one()
            if secret and not known.secrets:  # it was set later
                known.secrets = _secrets(secret)
            session.flush()
            return self._place(session, campaign)

    def settle(self, campaign: UUID, address: str, project: int) -> Elsewhere:
        """The campaign's project is this one, at this address."""
        p = t.ExternalProject
        with self._database.transaction() as session:
            session.execute(update(p).where(p.campaign_id == campaign).values(address=address, project=project))
            return self._place(session, campaign)

    def _place(self, session: Session, campaign: UUID) -> Elsewhere:
        query = select(t.ExternalProject, t.Campaign, t.Hook).where(t.ExternalProject.campaign_id == campaign)
        query = query.join(t.Campaign, t.Campaign.id == t.ExternalProject.campaign_id).join(t.Hook, t.Hook.id == t.ExternalProject.hook_id)
        row, owner, hook = session.execute(query).one()
        lasting = [each["ref"] for each in hook.secrets if each["until"] is None]
        return Elsewhere(
            campaign=campaign,
            name=owner.name,
            spec=load(owner.spec),
            address=row.address,
            hook=hook.id,
            secret=lasting[-1] if lasting and hook.retired_at is None else None,
            project=row.project,
            watermark=row.watermark,
        )

    # --- tasks ---------------------------------------------------------------------------------------------------------

    def unsent(self, campaign: UUID, limit: int) -> list[Unsent]:
        """Open tasks that were never sent, the most wanted first. From here on each counts as one that may be there."""
        task, ref = t.Task, t.ExternalRef
        query = (
            _tasks()
            .outerjoin(ref, ref.task_id == task.id)
            .where(task.campaign_id == campaign, task.state == TaskState.OPEN, ref.task_id.is_(None))
            .where(task.assist.is_distinct_from(Assist.ACCEPT))  # those a model answers
            .order_by(task.priority.desc(), task.id)
            .limit(limit)
        )
        with self._database.transaction() as session:
            found = session.execute(query).all()
            self._add_all(session, ref, [{"task_id": row.id, "campaign_id": campaign} for row in sorted(found, key=lambda row: row.id)])
            return [_unsent(row) for row in found]

    def unsure(self, campaign: UUID) -> list[Unsent]:
        """Tasks of which it is not known whether they are there: whoever sent them did not come back."""
        ref = t.ExternalRef
        query = _tasks().join(ref, ref.task_id == t.Task.id)
        query = query.where(ref.campaign_id == campaign, ref.external_id.is_(None), ref.problem.is_(None)).order_by(t.Task.id)
        with self._database.transaction() as session:
            return [_unsent(row) for row in session.execute(query)]

    def sent(self, campaign: UUID, ids: Mapping[UUID, int], overlap: int) -> None:
        """Label Studio has these tasks, under these ids of its own, and asks for so many opinions on each."""
        with self._database.transaction() as session:
            session.execute(_SENT, {"tasks": list(ids), "externals": list(ids.values()), "overlap": overlap})

    def refused(self, task: UUID, why: str) -> None:
        """The task cannot be shown there."""
        ref = t.ExternalRef
        with self._database.transaction() as session:
            session.execute(update(ref).where(ref.task_id == task).values(problem=plain(why)))

    def wanting(self, campaign: UUID) -> list[tuple[UUID, int, int]]:
        """Tasks of which Label Studio has had all opinions that it asks for, and more are wanted: id, id there, how many then.

        Those that it has had count there for good, also where they do not count here.
        """
        a, task, ref = t.Annotation, t.Task, t.ExternalRef
        had = select(a.task_id, func.count(a.labeler_id.distinct()).label("opinions")).where(a.campaign_id == campaign, a.source == SOURCE)
        no_opinion = (AnnotationStatus.DELETED, AnnotationStatus.SKIPPED)
        had_there = had.where(a.status.not_in(no_opinion)).group_by(a.task_id).subquery()
        wanted = had_there.c.opinions + task.overlap - task.n_valid
        query = (
            select(task.id, ref.external_id, wanted.label("wanted"))
            .join(had_there, had_there.c.task_id == task.id)
            .join(ref, ref.task_id == task.id)
            .where(task.state == TaskState.OPEN, task.gold.is_(None), wanted > ref.overlap)
            .where(ref.problem.is_(None), ref.external_id.is_not(None))
            .order_by(task.id)
        )
        with self._database.transaction() as session:
            return [(row.id, row.external_id, row.wanted) for row in session.execute(query)]

    # --- reading -------------------------------------------------------------------------------------------------------

    def read_until(self, campaign: UUID, at: datetime) -> None:
        """What changed in Label Studio before *at* has been read."""
        p = t.ExternalProject
        with self._database.transaction() as session:
            session.execute(update(p).where(p.campaign_id == campaign).values(watermark=func.greatest(p.watermark, at)))

    def sending(self, campaign: UUID, problem: PerdureError | None) -> None:
        """All was sent, or why not. The owner is told once of what will not pass by itself."""
        self._ended(campaign, "sending_problem", problem)

    def reading(self, campaign: UUID, problem: PerdureError | None) -> None:
        """All was read, or why not. The owner is told once of what will not pass by itself."""
        self._ended(campaign, "reading_problem", problem)

    def _ended(self, campaign: UUID, column: str, problem: PerdureError | None) -> None:
        with self._database.transaction() as session:
            row = session.get(t.ExternalProject, campaign, with_for_update=True)
            if row is None:
                return
            if isinstance(problem, Permanent) and row.sending_problem is None and row.reading_problem is None:
                self._tell_owner(session, campaign, problem.problem)
            setattr(row, column, plain(problem.problem) if problem else None)
            if problem is None:
                row.asked_at = datetime.now(UTC)

    def _tell_owner(self, session: Session, campaign: UUID, problem: str) -> None:
        owner = session.get_one(t.Campaign, campaign)
        tell(session, self._tenant, load(owner.spec).owner, kind="label_studio", campaign=owner.name, problem=plain(problem)[:1_000])

    def given(self, campaign: UUID, names: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these answers of Label Studio (source key, revision) are there already."""
        a = t.Annotation
        query = select(a.source_key, a.revision).where(a.campaign_id == campaign, a.source == SOURCE)
        with self._database.transaction() as session:
            found = session.execute(query.where(tuple_(a.source_key, a.revision).in_(sorted(names)))) if names else ()
            return {(row.source_key, row.revision) for row in found}

    def standing(self, campaign: UUID) -> dict[str, str]:
        """Answers of Label Studio that nobody has deleted: the keys of their tasks by source key."""
        a = t.Annotation
        hook = select(t.ExternalProject.hook_id).where(t.ExternalProject.campaign_id == campaign).scalar_subquery()
        gone = select(a.source_key).where(a.campaign_id == campaign, a.source == SOURCE, a.status == AnnotationStatus.DELETED)
        query = select(a.source_key, t.Task.key).join(t.Task, t.Task.id == a.task_id).where(a.campaign_id == campaign, a.source == SOURCE)
        query = query.where(a.source_key.like(func.concat("ls:", hook, ":%")), a.source_key.not_in(gone))
        with self._database.transaction() as session:
            return {row.source_key: row.key for row in session.execute(query)}


def _tasks() -> Select[Any]:
    task = t.Task
    return select(task.id, task.key, task.payload, task.overlap, task.prediction, task.assist)


def _unsent(row: Row[Any]) -> Unsent:
    return Unsent(id=row.id, key=row.key, payload=row.payload, overlap=row.overlap, prediction=row.prediction, assisted=row.assist)


def _secrets(secret: str | None) -> list[dict[str, str | None]]:
    return [{"ref": secret, "until": None}] if secret else []
