"""Going back to a version that was released before."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from perdure.errors import Conflict
from perdure.keys import identity
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository import records, serves
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.promotions import PromotionRows
from perdure.ports import Release
from perdure.rollout.history import Served, lineup


class RollbackRows(PromotionRows):
    """`perdure.rollout.ports.Rollbacks` on Postgres."""

    def rollback(self, model: str, *, to: int | None, reason: str, actor: str, command_id: str) -> Release:
        """The version that was released before the one that serves (or *to*) serves again, and what is under way is refused.

        Once per *command_id*. Raises NotFound for an unknown model or version, Conflict where there is nothing to go back to.
        """
        key = identity(self._tenant, model, "rollback", command_id)
        with self._database.transaction() as session:
            self._lock(session, "model", model)
            if (before := self._release_of(session, key)) is not None:
                return before
            serving = self._serving(session, model)
            if serving is None:
                raise records.unknown_model(session, self._tenant, model)
            target = self._target(session, serving, to)
            self._refuse_all(session, model, actor, f"version {serving.number} was rolled back by {actor}: {reason}")
            at = max(serves.now(session), serving.since + timedelta(microseconds=1))
            session.execute(update(t.Release).where(t.Release.id == serving.id).values(until=at))
            self._add(
                session,
                t.Release,
                id=key,
                model=model,
                model_version_id=target.version,
                since=at,
                rolled_back_id=serving.id,
                actor=plain(actor),
                reason=plain(reason),
            )
            detail = {"actor": actor, "reason": reason, "from": serving.number, "to": target.number}
            self._event(session, serving.model_version, t.ModelEventKind.ROLLED_BACK, key, detail)
            self._event(session, target.version, t.ModelEventKind.RELEASED, key, detail)
            after = {"release": str(key), "version": target.number}
            self._audit(session, "release.rollback", serving.id, actor, command_id=command_id, reason=reason, after=after)
            promotion = self._promotion_of(session, serving)
            if promotion is not None:
                self._tell_owner(session, promotion, "rolled_back", actor, reason)
            serves.changed(session, model)
            opened = self._release_of(session, key)
            assert opened is not None, "inserted above"
            return opened

    def _refuse_all(self, session: Session, model: str, actor: str, reason: str) -> None:
        """Refuse every promotion of *model* that is under way: what it was compared with serves no longer."""
        live = t.StepRun.state == t.StepState.RUNNING
        query = (
            select(t.Promotion, t.ModelVersion.number)
            .join(t.StepRun, t.StepRun.id == t.Promotion.id)
            .join(t.ModelVersion, t.ModelVersion.id == t.Promotion.model_version_id)
            .where(t.Promotion.tenant == self._tenant, t.Promotion.model == model, t.Promotion.state == t.PromotionState.OPEN, live)
            .order_by(t.Promotion.id)
            .with_for_update(of=t.Promotion, key_share=True)
        )
        for promotion, number in session.execute(query).all():
            self._end(session, promotion, None, actor, reason)
            poke(session, self._tenant, f"promote/{model}/{number}")

    def _target(self, session: Session, serving: Release, to: int | None) -> Served:
        """The version to go back to."""
        query = (
            select(t.Release.model_version_id, t.ModelVersion.number, t.Release.rolled_back_id)
            .join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
            .where(t.Release.tenant == self._tenant, t.Release.model == serving.model)
            .order_by(t.Release.since)
        )
        rows = session.execute(query).all()
        released = [Served(version=each.model_version_id, number=each.number, rollback=each.rolled_back_id is not None) for each in rows]
        behind = [each for each in lineup(released) if each.version != serving.model_version]
        if to is None:
            if not behind:
                raise Conflict(
                    f"no version of {serving.model!r} was released before version {serving.number}",
                    remedy="name one that was rolled back with --to, or release another by a run",
                )
            return behind[-1]
        if to == serving.number:
            raise Conflict(f"version {to} of {serving.model!r} serves now", field="to", remedy="name another version, or none")
        found = next((each for each in released if each.number == to), None)
        if found is None:
            if self._version(session, serving.model, to) is None:
                raise records.unknown_model(session, self._tenant, serving.model, to)
            numbers = ", ".join(str(number) for number in sorted({each.number for each in released} - {serving.number}))
            raise Conflict(
                f"version {to} of {serving.model!r} was never released, so there is no going back to it",
                field="to",
                remedy=f"name one of {numbers}" if numbers else "release it by a run: gates and people decide then",
            )
        return found

    def _release_of(self, session: Session, key: UUID) -> Release | None:
        query = select(t.Release, t.ModelVersion.number).join(t.ModelVersion, t.ModelVersion.id == t.Release.model_version_id)
        found = session.execute(query.where(t.Release.id == key)).one_or_none()
        return records.release(*found) if found is not None else None

    def _promotion_of(self, session: Session, release: Release) -> t.Promotion | None:
        """The promotion that led to the version of *release*: its own, or that of an earlier release of it."""
        query = (
            select(t.Promotion)
            .join(t.Release, t.Release.promotion_id == t.Promotion.id)
            .where(t.Release.tenant == self._tenant, t.Release.model_version_id == release.model_version)
            .order_by(t.Release.since.desc())
            .limit(1)
        )
        return session.scalar(query)

    def _version(self, session: Session, model: str, number: int) -> UUID | None:
        where = (t.ModelVersion.tenant == self._tenant, t.ModelVersion.model == model, t.ModelVersion.number == number)
        return session.scalar(select(t.ModelVersion.id).where(*where))
