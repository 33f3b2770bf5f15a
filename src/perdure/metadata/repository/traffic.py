"""Candidates beside the released version: stages of a rollout as rows, and what serving processes say of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnExpressionArgument, Row, func, select
from sqlalchemy.orm import Session

from perdure.errors import Conflict, NotFound
from perdure.keys import identity
from perdure.messages.rollout import Stage, Standing, TrafficKind
from perdure.metadata import tables as t
from perdure.metadata.repository import experiments, serves
from perdure.metadata.repository.lifecycle import lock_step, running
from perdure.metadata.repository.promotions import PromotionRows
from perdure.metadata.repository.rows import Rows
from perdure.rollout.ports import Counted, Counts, ServingProcess, TrafficRow

ALIVE = timedelta(seconds=10)
"""A serving process that was not seen for so long is gone; it says so each second."""


class TrafficRows(Rows):
    """`perdure.rollout.ports.Traffic` on Postgres."""

    def open(self, promotion: UUID, position: int, stages: Sequence[Stage], reason: str) -> Standing:
        """Enter the stage at *position*, or the one that this promotion is in or comes to; see the port. Raises Conflict."""
        with self._database.transaction() as session:
            row = session.scalar(select(t.Promotion).where(t.Promotion.id == promotion, t.Promotion.tenant == self._tenant))
            if row is None:
                raise NotFound(f"there is no promotion {promotion}")
            self._lock(session, "model", row.model)
            running(lock_step(session, self._tenant, promotion))
            session.refresh(row)
            mine = session.scalars(select(t.Traffic).where(t.Traffic.promotion_id == promotion).order_by(t.Traffic.since)).all()
            current = next((each for each in mine if each.until is None), None)
            if current is not None and current.stage >= position - 1:
                return _standing(current)
            if (ended := self._hindrance(session, row)) is not None:
                return Standing(ended=ended)
            passed = max((each.stage for each in mine if each.outcome == serves.PASSED), default=-1)
            stage = max(position - 1, passed + 1) if position else -1
            at = serves.now(session)
            if current is not None:
                at = max(at, current.since + timedelta(microseconds=1))
                serves.end(session, [current], serves.PASSED, at)
            key = identity(promotion, "traffic", stage, sum(each.stage == stage for each in mine))
            wanted = stages[stage + 1]
            self._add(
                session,
                t.Traffic,
                id=key,
                model=row.model,
                model_version_id=row.model_version_id,
                promotion_id=promotion,
                stage=stage,
                kind=wanted.kind,
                share=wanted.share,
                since=at,
            )
            self._event(session, row.model_version_id, t.ModelEventKind.STAGED, key, {"stage": str(wanted)})
            self._audit(session, "promotion.stage", promotion, "perdure", reason=reason, after={"stage": str(wanted), "traffic": str(key)})
            serves.changed(session, row.model)
            opened = session.get_one(t.Traffic, key)
            if wanted.kind is TrafficKind.ARM:
                experiments.begin(session, opened, wanted.settings)
            return _standing(opened)

    def _hindrance(self, session: Session, promotion: t.Promotion) -> str | None:
        """Why no stage of *promotion* may begin."""
        if promotion.state is not t.PromotionState.OPEN:
            return promotion.reason
        if (other := serves.other_champion(session, self._tenant, promotion)) is not None:
            return f"{other} serves now, but this version was compared with another"
        taken = session.execute(
            select(t.ModelVersion.number, t.Run.workflow_id)
            .join(t.Traffic, t.Traffic.model_version_id == t.ModelVersion.id)
            .join(t.StepRun, t.StepRun.id == t.Traffic.promotion_id)
            .join(t.Run, t.Run.id == t.StepRun.run_id)
            .where(t.Traffic.tenant == self._tenant, t.Traffic.model == promotion.model, t.Traffic.until.is_(None))
            .where(t.Traffic.promotion_id != promotion.id)
        ).one_or_none()
        return f"version {taken.number} takes part in {taken.workflow_id} now" if taken is not None else None

    def row(self, traffic: UUID) -> TrafficRow:
        """The row, open or not. Raises NotFound."""
        with self._database.transaction() as session:
            return self._row(session, traffic)

    def counts(self, traffic: UUID) -> Counts:
        """What the serving processes counted by the row, and of the released version since the row began, by whole minutes."""
        w = t.ServingWindow
        with self._database.transaction() as session:
            row = self._row(session, traffic)
            released = session.scalar(
                select(t.Release.model_version_id).where(
                    t.Release.tenant == self._tenant, t.Release.model == row.model, t.Release.until.is_(None)
                )
            )
            return Counts(
                candidate=_counted(session, w.model_version_id == row.model_version, w.by_id == row.id),
                released=_counted(
                    session, w.model_version_id == released, w.role == "release", w.minute >= func.date_trunc("minute", row.since)
                )
                if released is not None
                else Counted(),
            )

    def processes(self, model: str, version: UUID) -> list[ServingProcess]:
        """The serving processes that live, and answer for *model*."""
        i = t.ServingInstance
        with self._database.transaction() as session:
            released = session.scalar(
                select(t.Release.model_version_id).where(
                    t.Release.tenant == self._tenant, t.Release.model == model, t.Release.until.is_(None)
                )
            )
            alive = session.execute(
                select(i.address, i.loaded, i.failed)
                .where(i.tenant == self._tenant, i.seen_at > func.clock_timestamp() - ALIVE)
                .order_by(i.address)
            ).all()
        key = str(version)
        return [
            ServingProcess(address=each.address, loaded=key in each.loaded, failed=each.failed.get(key))
            for each in alive
            if released is None or str(released) in each.loaded or key in each.loaded or key in each.failed
        ]

    def staged(self, promotion: UUID) -> bool:
        """Whether a candidate of this promotion takes part now."""
        query = select(t.Traffic.id).where(t.Traffic.promotion_id == promotion, t.Traffic.tenant == self._tenant, t.Traffic.until.is_(None))
        with self._database.transaction() as session:
            return session.scalar(query) is not None

    def withdraw(self, promotion: UUID, reason: str) -> None:
        """The promotion's candidate takes part no longer; no-op where none does."""
        with self._database.transaction() as session:
            serves.withdraw(session, reason, t.Traffic.promotion_id == promotion, t.Traffic.tenant == self._tenant)

    def command(self, promotion: UUID, traffic: UUID, command: str, command_id: str, actor: str, reason: str) -> None:
        """Record what somebody said about a rollout, once; see the port. Raises Conflict where it comes too late."""
        with self._database.transaction() as session:
            row = session.scalar(select(t.Traffic).where(t.Traffic.id == traffic, t.Traffic.tenant == self._tenant))
            if row is None or row.promotion_id != promotion:
                raise NotFound(f"promotion {promotion} has no stage {traffic}")
            self._lock(session, "model", row.model)
            session.refresh(row)
            promoting = session.get_one(t.Promotion, promotion, populate_existing=True)
            detail = {"traffic": str(traffic)}
            if not self._audit(session, f"promotion.{command}", promotion, actor, command_id=command_id, reason=reason, after=detail):
                return
            if promoting.state is not t.PromotionState.OPEN or (command != "abort" and row.until is not None):
                raise Conflict("this stage has ended meanwhile", remedy="`perdure show RUN` says where the promotion stands")
            if command == "abort":  # whichever stage is open by now: the refusal keeps the next from being opened
                told = f"aborted by {actor}" + (f": {reason}" if reason else "")
                PromotionRows(self._database).refuse_within(session, promoting, actor, told)

    def _row(self, session: Session, traffic: UUID) -> TrafficRow:
        row = session.scalar(select(t.Traffic).where(t.Traffic.id == traffic, t.Traffic.tenant == self._tenant))
        if row is None:
            raise NotFound(f"there is no traffic {traffic}")
        return TrafficRow(
            id=row.id,
            model=row.model,
            model_version=row.model_version_id,
            kind=row.kind,
            since=row.since,
            until=row.until,
            outcome=row.outcome,
        )


def _standing(row: t.Traffic) -> Standing:
    return Standing(traffic=row.id, position=row.stage + 1, since=row.since)


def _counted(session: Session, *where: ColumnExpressionArgument[bool]) -> Counted:
    w = t.ServingWindow
    query = select(w.requests, w.rows, w.errors, w.disagreements, w.latency).where(*where)
    rows: Collection[Row[tuple[int, int, int, int, list[int]]]] = session.execute(query).all()
    width = max((len(row.latency) for row in rows), default=0)
    return Counted(
        requests=sum(row.requests for row in rows),
        rows=sum(row.rows for row in rows),
        errors=sum(row.errors for row in rows),
        disagreements=sum(row.disagreements for row in rows),
        latency=[sum(row.latency[index] for row in rows if index < len(row.latency)) for index in range(width)],
    )
