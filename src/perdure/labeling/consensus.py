"""The label of one task from the opinions on it, or the wish for another opinion."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from perdure.keys import canonical
from perdure.labeling.spec import Overlap

PRIOR = (4.0, 1.0)  # gold answers, right and wrong, that every labeler is credited with: 0.8 before anything is known
_LEAST, _MOST = 0.51, 0.99


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What one labeler says, and how they did on gold tasks."""

    value: Any
    labeler: str
    right: int = 0
    wrong: int = 0

    @property
    def accuracy(self) -> float:
        """The mean of a Beta posterior, within bounds that keep one labeler from deciding alone against many."""
        mean = (self.right + PRIOR[0]) / (self.right + self.wrong + sum(PRIOR))
        return min(_MOST, max(_LEAST, mean))


class Verdict(StrEnum):
    """What is to become of the task."""

    DECIDED = "decided"
    MORE = "more"
    DISPUTED = "disputed"


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """The winning label with its posterior probability; ``method`` says how it was found."""

    verdict: Verdict
    label: Any = None
    posterior: float = 0.0
    method: str = "weighted-majority/1"


def decide(opinions: Sequence[Opinion], choices: Sequence[str], overlap: Overlap) -> Consensus:
    """Each opinion is a vote with the log odds of its labeler's accuracy; errors are spread evenly over the other choices.

    (The one-coin model of Dawid and Skene, 1979, with accuracies from gold instead of EM.) Numbers are decided by their median, once
    ``overlap.labels`` are there. *opinions* must not be empty.
    """
    if not choices:
        values = sorted(float(each.value) for each in opinions)
        middle = len(values) // 2
        median = values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
        return Consensus(verdict=Verdict.DECIDED, label=median, posterior=1.0, method="median/1")
    scores: dict[bytes, float] = defaultdict(float)
    named = {canonical(each.value): each.value for each in opinions}
    for each in opinions:
        scores[canonical(each.value)] += math.log(each.accuracy * max(1, len(choices) - 1) / (1 - each.accuracy))
    best = max(sorted(scores), key=lambda value: scores[value])  # sorted: a tie falls the same way in every attempt
    unseen = max(0, len(choices) - len(scores))
    total = sum(math.exp(score - scores[best]) for score in scores.values()) + unseen * math.exp(-scores[best])
    label, posterior = named[best], 1 / total
    if posterior >= overlap.agreement:
        return Consensus(verdict=Verdict.DECIDED, label=label, posterior=posterior)
    if len(opinions) < overlap.most:
        return Consensus(verdict=Verdict.MORE, label=label, posterior=posterior)
    return Consensus(verdict=Verdict.DISPUTED, label=label, posterior=posterior)
