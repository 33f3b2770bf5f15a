"""What became known after a prediction: outcomes, and what users say.

A transaction that adds outcomes of a model holds the model's lock before it reads the clock and draws their sequence numbers. So they are
committed in the order of both, and a reader that has seen up to one has seen all before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.errors import InvalidInput
from perdure.keys import identity
from perdure.messages.common import Json
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.listening import FEEDBACK
from perdure.metadata.repository.rows import Rows
from perdure.predictions import Prediction, parse

AHEAD = timedelta(minutes=5)
"""How far clocks of others may be ahead."""


@dataclass(frozen=True, kw_only=True)
class NewOutcome:
    """The truth about a prediction, as *source* observed it; without a time: now, if it differs from what the source said last."""

    prediction_id: str
    value: str | int | float | bool
    source: str
    observed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class NewFeedback:
    """What *principal* says of a prediction."""

    prediction_id: str
    verdict: t.Verdict
    principal: str
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of one: its row, whether that was there already; or why it was not taken."""

    prediction_id: str
    id: UUID | None = None
    duplicate: bool = False
    error: str | None = None


class FeedbackRows(Rows):
    """Outcomes and feedback as rows."""

    def outcomes(self, items: Sequence[NewOutcome]) -> list[Receipt]:
        """What became of each, in their order: all that fit are one transaction."""
        with self._database.transaction() as session:
            known, wrong = self._predictions(session, [item.prediction_id for item in items])
            lock_outcomes(session, self._tenant, {each.model for each in known.values()})
            book = _Book(self._earlier(session, known), session.scalars(select(func.clock_timestamp())).one())
            told = [
                Receipt(prediction_id=i.prediction_id, error=wrong[i.prediction_id])
                if i.prediction_id in wrong
                else self._outcome(book, known[i.prediction_id], i)
                for i in items
            ]
            insert_outcomes(session, self._tenant, book.added, book.now)
        return told

    def _outcome(self, book: _Book, prediction: Prediction, item: NewOutcome) -> Receipt:
        """An outcome, if *book* has none like it."""
        at = (item.observed_at or book.now).astimezone(UTC)
        if at > book.now + AHEAD:
            return Receipt(prediction_id=item.prediction_id, error=f"observed_at is in the future: {at.isoformat()}")
        last = book.last.get((item.prediction_id, item.source))
        if item.observed_at is None and last is not None:
            if _same(last.value["value"], item.value):
                return Receipt(prediction_id=item.prediction_id, id=last.id, duplicate=True)
            at = max(at, last.observed_at + timedelta(microseconds=1))
        id = outcome_id(self._tenant, item.prediction_id, item.source, at)
        if (there := book.by_id.get(id)) is not None:
            if not _same(there.value["value"], item.value):
                return Receipt(
                    prediction_id=item.prediction_id, error="another value was told for this source and time; send a later observed_at"
                )
            return Receipt(prediction_id=item.prediction_id, id=id, duplicate=True)
        book.add(
            _Known(id=id, prediction_id=item.prediction_id, source=item.source, value={"value": item.value}, observed_at=at),
            prediction.model,
        )
        return Receipt(prediction_id=item.prediction_id, id=id)

    def feedback(self, items: Sequence[NewFeedback]) -> list[Receipt]:
        """What became of each, in their order. The same word of the same person again is the row that is there."""
        f = t.Feedback
        told: list[Receipt] = []
        with self._database.transaction() as session:
            known, wrong = self._predictions(session, [item.prediction_id for item in items])
            for model in sorted({each.model for each in known.values()}):
                self._lock(session, "feedback", model)
            rows = session.execute(
                select(f.id, f.prediction_id, f.principal, f.verdict, f.comment, f.created_at)
                .where(f.tenant == self._tenant, f.prediction_id.in_(known))
                .order_by(f.created_at)
            )
            last = {(row.prediction_id, row.principal): (row.id, row.verdict, row.comment, row.created_at) for row in rows}
            now: datetime = session.scalars(select(func.clock_timestamp())).one()
            added: list[Json] = []
            for item in items:
                if item.prediction_id in wrong:
                    told.append(Receipt(prediction_id=item.prediction_id, error=wrong[item.prediction_id]))
                    continue
                comment, place = plain(item.comment), (item.prediction_id, plain(item.principal))
                id, verdict, said, at = last.get(place, (None, None, None, None))
                if id is not None and (verdict, said) == (item.verdict, comment):
                    told.append(Receipt(prediction_id=item.prediction_id, id=id, duplicate=True))
                    continue
                made = max(now, at + timedelta(microseconds=1)) if at else now
                id = identity(self._tenant, "feedback", *place, made.isoformat())
                last[place] = (id, item.verdict, comment, made)
                prediction = known[item.prediction_id]
                values = {"model": prediction.model, "version": prediction.version, "verdict": item.verdict, "comment": comment}
                added.append({"id": id, "prediction_id": place[0], "principal": place[1], "created_at": made, **values})
                told.append(Receipt(prediction_id=item.prediction_id, id=id))
            self._add_all(session, f, added)
            if any(each["verdict"] is t.Verdict.WRONG for each in added):
                session.execute(select(func.pg_notify(FEEDBACK, "")))
        return told

    def _predictions(self, session: Session, ids: Iterable[str]) -> tuple[dict[str, Prediction], dict[str, str]]:
        """The predictions that these ids name, and what is wrong with other ids."""
        known, wrong = {}, {}
        for id in dict.fromkeys(ids):
            try:
                known[id] = parse(id)
            except InvalidInput as err:
                wrong[id] = err.problem
        v = t.ModelVersion
        pairs = {(each.model, each.version) for each in known.values()}
        there = set()
        if pairs:
            matches = or_(*(and_(v.model == model, v.number == number) for model, number in sorted(pairs)))
            there = {tuple(row) for row in session.execute(select(v.model, v.number).where(v.tenant == self._tenant, matches))}
        for id, each in list(known.items()):
            if (each.model, each.version) not in there:
                wrong[id] = f"there is no version {each.version} of the model {each.model!r}"
                del known[id]
        return known, wrong

    def _earlier(self, session: Session, known: Iterable[str]) -> list[_Known]:
        o = t.Outcome
        rows = session.execute(
            select(o.id, o.prediction_id, o.source, o.value, o.observed_at)
            .where(o.prediction_id.in_(list(known)), o.tenant == self._tenant)
            .order_by(o.observed_at, o.sequence)
        )
        return [_Known(**row._mapping) for row in rows]


@dataclass(frozen=True, kw_only=True)
class _Known:
    id: UUID
    prediction_id: str
    source: str
    value: Json
    observed_at: datetime


class _Book:
    """Outcomes that are there, and those that are being added."""

    def __init__(self, rows: Iterable[_Known], now: datetime) -> None:
        self.now, self.added = now, list[Json]()
        self.by_id: dict[UUID, _Known] = {}
        self.last: dict[tuple[str, str], _Known] = {}
        for row in rows:
            self._note(row)

    def add(self, row: _Known, model: str) -> None:
        """Another one."""
        self._note(row)
        self.added.append({**vars(row), "model": model})

    def _note(self, row: _Known) -> None:
        self.by_id[row.id] = row
        place = (row.prediction_id, row.source)
        if place not in self.last or self.last[place].observed_at <= row.observed_at:
            self.last[place] = row


def outcome_id(tenant: str, prediction: str, source: str, observed_at: datetime) -> UUID:
    """The id of an outcome's row: the same for the same prediction, source and time."""
    return identity(tenant, "outcome", prediction, observed_at.astimezone(UTC).isoformat(), source)


def lock_outcomes(session: Session, tenant: str, models: Iterable[str]) -> None:
    """Hold the order of these models' outcomes until the transaction ends. Taken after tasks and before a campaign's row, or alone."""
    for model in sorted(set(models)):
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"perdure/{tenant}/outcomes/{model}", 0))))


def insert_outcomes(session: Session, tenant: str, rows: Sequence[Json], received_at: datetime) -> None:
    """Add *rows* in their order; the caller holds the lock of their models, and read the clock since."""
    if rows:
        values = [{"tenant": tenant, "received_at": received_at, **row} for row in rows]
        session.execute(insert(t.Outcome).on_conflict_do_nothing(), values)


def decided_outcomes(session: Session, tenant: str, campaign: str, labels: Sequence[tuple[str, Any]]) -> None:
    """What people decided about predictions (id, label) is their outcome, in the transaction of the decision. Other keys are left out."""
    known: dict[str, tuple[Prediction, Any]] = {}
    for id, label in labels:
        try:
            known[id] = (parse(id), label)
        except InvalidInput:
            continue
    lock_outcomes(session, tenant, {each.model for each, _ in known.values()})
    at: datetime = session.scalars(select(func.clock_timestamp())).one()
    source = f"campaign/{campaign}"
    rows = [
        {
            "id": outcome_id(tenant, id, source, at),
            "prediction_id": id,
            "model": each.model,
            "source": source,
            "value": {"value": label},
            "observed_at": at,
        }
        for id, (each, label) in known.items()
    ]
    insert_outcomes(session, tenant, rows, at)


def _same(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other)
