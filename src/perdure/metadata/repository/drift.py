"""What monitors said: drift events, each once, and the poke of the controller that answers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from perdure.errors import NotFound
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
        rows = [self._row(event) for event in events]
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

    def _row(self, event: DriftEvent) -> dict[str, Any]:
        values = {name: plain(value) if isinstance(value, str) else value for name, value in asdict(event).items()}
        # A digest, as sources are URIs: joined with a slash, two of them could be the same.
        named = digest([values["source"], values["event_id"]])
        return {**values, "kind": event.kind, "tenant": self._tenant, "id": identity(self._tenant, "drift", named)}

    def _known(self, session: Session, models: set[str]) -> None:
        """Raises NotFound where one of the *models* has no version: nobody would ever answer its events."""
        v = t.ModelVersion
        query = select(v.model).where(v.tenant == self._tenant, v.model.in_(sorted(plain(model) for model in models))).distinct()
        if unknown := sorted(models - set(session.scalars(query))):
            raise NotFound(f"no version of {', '.join(unknown)} exists", field="model", remedy="`perdure models` shows what exists")
