"""Messages to hooks: the delivery's row and all that it changes are one transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from psycopg import DataError
from sqlalchemy import exc, func, select, tuple_, update
from sqlalchemy.orm import Session

from perdure.errors import InvalidInput, NotFound, Permanent
from perdure.labeling.acceptance import TOMBSTONE
from perdure.labeling.deliveries import Arrived, Delivery, Kept, Meaning, Unusable
from perdure.labeling.ports import Incoming
from perdure.messages.labeling import DeliveryState
from perdure.metadata import tables as t
from perdure.metadata.database import Database, again
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.drift import DriftRows
from perdure.metadata.repository.leases import LabelRows
from perdure.metadata.repository.promotions import SLACK, PromotionRows
from perdure.metadata.repository.rows import Rows


class DeliveryRows(Rows):
    """The inbox on Postgres."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._labels, self._promotions, self._drift = LabelRows(database), PromotionRows(database), DriftRows(database)

    @again
    def receive(self, arrived: Arrived, meaning: Meaning | Unusable) -> Delivery:
        """Keep the message and do what it says; what cannot be done is quarantined with the reason. The same key again is a duplicate."""
        with self._database.transaction() as session:
            new = self._add(
                session,
                t.Delivery,
                hook_id=arrived.hook,
                key=arrived.key,
                body_sha256=arrived.body_sha256,
                headers=arrived.headers,
                body=arrived.body,
                state=DeliveryState.PROCESSED,
                processed_at=datetime.now(UTC),
            )
            if not new:
                return _delivery(session.get_one(t.Delivery, (arrived.hook, arrived.key)), duplicate=True)
            self._settle(session, arrived.hook, arrived.key, self._act(session, arrived.hook, arrived.campaign, meaning))
            return _delivery(session.get_one(t.Delivery, (arrived.hook, arrived.key)))

    def signaled(self, body: bytes, meaning: Meaning | Unusable) -> Delivery:
        """`receive` for what a signal of the bare Temporal CLI carried: named by its bytes, in a hook of its own that no secret opens."""
        hook = f"signals.{self._tenant}"
        with self._database.transaction() as session:
            self._add(session, t.Hook, id=hook, provider=t.HookProvider.SIGNAL, secrets=[], created_by="perdure")
        named = sha256(body).hexdigest()
        return self.receive(Arrived(hook=hook, campaign=None, key=named, body=body, body_sha256=named, headers={}), meaning)

    def kept(self, hook: str, key: str) -> Kept:
        """The message as it was kept. Raises NotFound."""
        with self._database.transaction() as session:
            row = self._found(session, hook, key)
            return Kept(delivery=_delivery(row), body=row.body, headers=row.headers)

    @again
    def replay(self, hook: str, campaign: UUID | None, key: str, meaning: Meaning | Unusable) -> Delivery:
        """Try a quarantined message once more; one that was processed stays as it is. Raises NotFound."""
        with self._database.transaction() as session:
            row = self._found(session, hook, key, lock=True)
            if row.state is DeliveryState.PROCESSED:
                return _delivery(row, duplicate=True)
            error = self._act(session, hook, campaign, meaning)
            session.execute(
                update(t.Delivery)
                .where(t.Delivery.hook_id == hook, t.Delivery.key == key)
                .values(
                    attempts=t.Delivery.attempts + 1,
                    state=DeliveryState.PROCESSED,
                    error=None,
                    processed_at=func.now(),
                )
            )
            self._settle(session, hook, key, error)
            session.refresh(row)
            return _delivery(row)

    def deliveries(self, state: str | None = None, limit: int = 100) -> list[Delivery]:
        """Messages, the newest first. Raises InvalidInput for an unknown state."""
        query = select(t.Delivery).where(t.Delivery.tenant == self._tenant)
        if state is not None:
            if state not in [each.value for each in DeliveryState]:
                raise InvalidInput(f"{state!r} is no state", field="state", remedy=f"choose from {', '.join(DeliveryState)}")
            query = query.where(t.Delivery.state == DeliveryState(state))
        with self._database.transaction() as session:
            found = session.scalars(query.order_by(t.Delivery.received_at.desc(), t.Delivery.hook_id, t.Delivery.key).limit(limit))
            return [_delivery(row) for row in found]

    # --- acting --------------------------------------------------------------------------------------------------------

    def _act(self, session: Session, hook: str, campaign: UUID | None, meaning: Meaning | Unusable) -> str | None:
        """Do all that the message says, or nothing; why nothing."""
        if isinstance(meaning, Unusable):
            return meaning.reason
        try:
            with session.begin_nested():
                if meaning.one_by_one:
                    self._lock(session, "hook", hook)
                if meaning.answers or meaning.withdrawn:
                    self._answer(session, campaign, meaning)
                if meaning.vote:
                    vote = meaning.vote
                    self._promotions.vote_within(
                        session, vote.approval, vote.decision, vote.actor, vote.reason, vote.evidence_sha256, channel=SLACK
                    )
                if meaning.events:
                    self._drift.record_within(session, meaning.events)
        except Permanent as err:
            return err.problem
        except (DataError, exc.DataError) as err:  # of a statement sent as it is, or by SQLAlchemy
            return f"a value that Postgres cannot hold: {str(err).splitlines()[0]}"
        return None

    def _answer(self, session: Session, campaign: UUID | None, meaning: Meaning) -> None:
        if campaign is None:
            raise InvalidInput("this hook answers no campaign", field="hook")
        answers = list(meaning.answers)
        if meaning.one_by_one:
            answers += self._deleted_before(session, campaign, answers)
        answers += self._deletions(session, campaign, meaning.withdrawn)
        results = self._labels.accept_within(session, campaign, answers) if answers else []
        if wrong := [f"{result.task}: {result.error}" for result in results if result.error]:
            raise InvalidInput("; ".join(wrong), field="answers")

    def _deleted_before(self, session: Session, campaign: UUID, answers: list[Incoming]) -> list[Incoming]:
        """Deletions that overtook these answers."""
        w = t.Withdrawal
        named = {(answer.source, answer.source_key): answer for answer in answers}
        query = select(w.source, w.source_key).where(w.campaign_id == campaign, tuple_(w.source, w.source_key).in_(sorted(named)))
        return [_deletion(named[row.source, row.source_key]) for row in session.execute(query)]

    def _deletions(self, session: Session, campaign: UUID, withdrawn: list[tuple[str, str]]) -> list[Incoming]:
        """The deletion of each answer that is there; one that is not is noted for when it comes."""
        a, now = t.Annotation, datetime.now(UTC)
        query = (
            select(a.source, a.source_key, t.Task.key, t.Labeler.principal)
            .distinct()
            .join(t.Task, t.Task.id == a.task_id)
            .join(t.Labeler, t.Labeler.id == a.labeler_id)
            .where(a.campaign_id == campaign, tuple_(a.source, a.source_key).in_(sorted(withdrawn)))
        )
        found = {
            (row.source, row.source_key): Incoming(
                task=row.key,
                labeler=row.principal,
                source=row.source,
                source_key=row.source_key,
                revision=TOMBSTONE,
                event_time=now,
                deleted=True,
            )
            for row in (session.execute(query) if withdrawn else ())
        }
        early = [name for name in withdrawn if name not in found]
        self._add_all(
            session, t.Withdrawal, [{"campaign_id": campaign, "source": source, "source_key": key} for source, key in sorted(early)]
        )
        return list(found.values())

    def _settle(self, session: Session, hook: str, key: str, error: str | None) -> None:
        if error is not None:
            session.execute(
                update(t.Delivery)
                .where(t.Delivery.hook_id == hook, t.Delivery.key == key)
                .values(state=DeliveryState.QUARANTINED, error=plain(error), processed_at=None)
            )

    def _found(self, session: Session, hook: str, key: str, *, lock: bool = False) -> t.Delivery:
        query = select(t.Delivery).where(t.Delivery.hook_id == hook, t.Delivery.key == key, t.Delivery.tenant == self._tenant)
        row = session.scalars(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise NotFound(f"there is no delivery {key!r} to {hook!r}", field="key", remedy="`perdure deliveries list` shows all")
        return row


def _deletion(answer: Incoming) -> Incoming:
    return Incoming(
        task=answer.task,
        labeler=answer.labeler,
        source=answer.source,
        source_key=answer.source_key,
        revision=TOMBSTONE,
        event_time=answer.event_time,
        deleted=True,
    )


def _delivery(row: t.Delivery, *, duplicate: bool = False) -> Delivery:
    return Delivery(
        hook=row.hook_id,
        key=row.key,
        state=row.state,
        attempts=row.attempts,
        received_at=row.received_at,
        error=row.error,
        duplicate=duplicate,
    )
