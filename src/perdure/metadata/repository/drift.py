"""What monitors said: drift events, each once, and the poke of the controller that answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.errors import NotFound
from perdure.events.alertmanager import TYPE, alert_of
from perdure.keys import digest, identity
from perdure.messages.retraining import DriftEvent
from perdure.metadata import tables as t
from perdure.metadata.jsonb import plain
from perdure.metadata.repository.answers import poke
from perdure.metadata.repository.rows import Rows


class DriftRows(Rows):
    """`perdure.ports.DriftEvents` on Postgres."""

    def record(self, events: Sequence[DriftEvent]) -> list[bool]:
        """Keep each event once and poke ``retrain/{model}`` of what is new; for each whether it is. Raises NotFound: then none is kept."""
        with self._database.transaction() as session:
            return self.record_within(session, events)

    def record_within(self, session: Session, events: Sequence[DriftEvent]) -> list[bool]:
        """The same in the caller's transaction."""
        if not events:
            return []
        self._known(session, {event.model for event in events})
        rows = [self._row(event) for event in self._turned(session, events)]
        # In one order, as two transactions with the same events in different orders would wait for each other.
        first = {row["id"]: row for row in reversed(rows)}
        statement = insert(t.DriftEvent).on_conflict_do_nothing().returning(t.DriftEvent.id)
        new = set(session.scalars(statement, [first[id] for id in sorted(first)]))
        for model in sorted({row["model"] for id, row in first.items() if id in new}):
            poke(session, self._tenant, f"retrain/{model}")
        results = []
        for row in rows:
            results.append(row["id"] in new)
            new.discard(row["id"])  # what is in the same batch twice is new once
        return results

    def _turned(self, session: Session, events: Sequence[DriftEvent]) -> list[DriftEvent]:
        """*events*, where an alert that was told before, and said the opposite since, bears a name of its own.

        Alertmanager names an alert by its start, and that stays when an alert which is over fires again soon.
        """
        e = t.DriftEvent
        alerts = {self._id(event.source, event.event_id): event for event in events if event.type == TYPE}
        told = [alerts[id] for id in session.scalars(select(e.id).where(e.id.in_(sorted(alerts))))] if alerts else []
        if not told:
            return list(events)
        same = (e.source.in_({each.source for each in told}), e.window_start.in_({each.window_start for each in told}))
        query = select(e.id, e.source, e.event_id, e.drifted).where(e.tenant == self._tenant, e.model.in_({each.model for each in told}))
        last = {(row.source, alert_of(row.event_id)): row for row in session.execute(query.where(*same).order_by(e.received_at))}
        named = {}
        for event in told:
            before = last[event.source, alert_of(event.event_id)]
            if before.drifted != event.drifted:
                named[event.source, event.event_id] = replace(event, event_id=f"{event.event_id}/{before.id.hex[:12]}")
        return [named.get((event.source, event.event_id), event) for event in events]

    def _row(self, event: DriftEvent) -> dict[str, Any]:
        values = {name: plain(value) if isinstance(value, str) else value for name, value in asdict(event).items()}
        id = self._id(values["source"], values["event_id"])
        return {**values, "kind": event.kind, "tenant": self._tenant, "id": id}

    def _id(self, source: str, event_id: str) -> UUID:
        # A digest, as sources are URIs: joined with a slash, two of them could be the same.
        return identity(self._tenant, "drift", digest([source, event_id]))

    def _known(self, session: Session, models: set[str]) -> None:
        """Raises NotFound where one of the *models* has no version: nobody would ever answer its events."""
        v = t.ModelVersion
        query = select(v.model).where(v.tenant == self._tenant, v.model.in_(sorted(plain(model) for model in models))).distinct()
        if unknown := sorted(models - set(session.scalars(query))):
            raise NotFound(f"no version of {', '.join(unknown)} exists", field="model", remedy="`perdure models` shows what exists")
