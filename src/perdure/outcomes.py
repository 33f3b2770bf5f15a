"""Outcomes as jobs read them: rows become a parquet file, for jobs know no Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from perdure.messages.common import ArtifactRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The truth about one prediction, as one source told it. ``value`` is any JSON."""

    prediction_id: str
    source: str
    value: Any
    observed_at: datetime
    received_at: datetime


class Outcomes(Protocol):
    """Outcomes as rows."""

    def received(self, model: str, since: datetime, until: datetime) -> Iterator[list[Told]]:
        """What was received for *model* in this interval, its end left out, in the order of arrival and some thousands at a time.

        Raises StoreUnavailable.
        """

    def about(self, model: str, version: int, since: datetime, until: datetime) -> Iterator[list[Told]]:
        """What was told, until now, of predictions that *version* made in this interval, its end left out, by prediction.

        Some thousands at a time. Raises StoreUnavailable.
        """


class OutcomeFiles(Protocol):
    """Outcomes as objects."""

    def write(self, told: Iterable[list[Told]]) -> ArtifactRef | None:
        """A parquet file of these, None for none, with the columns of `Told`. ``value`` is JSON as text, times are UTC.

        Raises ObjectsUnavailable, StorageFull.
        """
