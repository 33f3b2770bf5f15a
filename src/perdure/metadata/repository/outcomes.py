"""Outcomes, as jobs are handed them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, literal, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from perdure.metadata import tables as t
from perdure.metadata.repository.rows import Rows
from perdure.outcomes import Told
from perdure.predictions import first_request, prediction_id

_PAGE = 10_000


class OutcomeRows(Rows):
    """`perdure.outcomes.Outcomes` on Postgres."""

    def received(self, model: str, since: datetime, until: datetime) -> Iterator[list[Told]]:
        """What was received for *model* in this interval, its end left out; each page is a transaction."""
        o = t.Outcome
        return self._pages((o.received_at, o.sequence), o.model == model, o.received_at >= since, o.received_at < until)

    def about(self, model: str, version: int, since: datetime, until: datetime) -> Iterator[list[Told]]:
        """What was told of predictions that *version* made in this interval, its end left out; each page is a transaction."""
        o, first, end = t.Outcome, *(prediction_id(model, version, first_request(each)) for each in (since, until))
        mine = o.prediction_id.startswith(prediction_id(model, version, ""), autoescape=True)  # whatever the collation says of points
        return self._pages((o.prediction_id, o.sequence), o.model == model, o.prediction_id >= first, o.prediction_id < end, mine)

    def _pages(self, order: tuple[InstrumentedAttribute[Any], ...], *wanted: ColumnElement[bool]) -> Iterator[list[Told]]:
        """Pages in this *order*, which an index has: each goes on where the last one ended."""
        o = t.Outcome
        columns = select(o.sequence, o.prediction_id, o.source, o.value, o.observed_at, o.received_at)
        query = page = columns.where(o.tenant == self._tenant, *wanted).order_by(*order).limit(_PAGE)
        while True:
            with self._database.transaction() as session:
                rows = session.execute(page).all()
            if not rows:
                return
            last = [literal(getattr(rows[-1], column.key), column.type) for column in order]
            page = query.where(tuple_(*order) > tuple_(*last))
            yield [
                Told(
                    prediction_id=row.prediction_id,
                    source=row.source,
                    value=row.value["value"],
                    observed_at=row.observed_at,
                    received_at=row.received_at,
                )
                for row in rows
            ]
