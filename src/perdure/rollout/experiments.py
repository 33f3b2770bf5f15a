"""What an experiment's activities need of rows. `perdure.metadata.repository` implements it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from perdure.messages.common import Json
from perdure.rollout.comparison import Judged


@dataclass(frozen=True, kw_only=True)
class ExperimentRow:
    """An experiment: the numbers of the versions, its stage's specification, how often it was looked at, what it has come to."""

    id: UUID
    model: str
    champion: int
    challenger: int
    spec: Json
    since: datetime
    looks: int
    judged: Judged


class Experiments(Protocol):
    """Experiments and the looks at them. Both methods may raise `StoreUnavailable`."""

    def experiment(self, traffic: UUID) -> ExperimentRow:
        """The experiment of this stage. Raises NotFound."""

    def decide(self, experiment: UUID, number: int, at: datetime, figures: Json, judged: Judged) -> Judged:
        """Record look *number*, and the end of the experiment where it decides, in one transaction.

        Returns what counts: what was recorded first under this number, or how the experiment had ended before.
        """
